# Sourced by the scripts beside it; `root` must be the top of the checkout.
# `cross_build TARGET PACKAGE` compiles in release mode, `cross_program TARGET NAME`
# says where the result lies.

# One folder for all targets, so that serde's macros, which run on this machine, are
# compiled once.
cross_folder=${CARGO_TARGET_DIR:-$root/target}/cross

# Sets the array `cargo` to the command that compiles for TARGET: rustup's where that
# target is installed, else Debian's Rust, which builds the standard library's parts
# (LIBRARIES, such as "core" or "std,panic_unwind") from its source.
choose_cargo() {
    local target=$1 libraries=$2
    local library_source=/usr/lib/rustlib/src/rust/library
    if command -v rustup >/dev/null && rustup target list --installed 2>/dev/null | grep -qx "$target"; then
        cargo=(cargo)
    elif [ -x /usr/bin/cargo ] && [ -x /usr/bin/rustc ] && [ -d "$library_source" ]; then
        # -Zbuild-std is unstable; the crates themselves stay stable Rust.
        cargo=(env RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc
            /usr/bin/cargo "-Zbuild-std=$libraries")
    else
        echo "no Rust for $target here: run 'rustup target add $target'," \
            "or on Debian 'apt-get install rustc-web cargo-web rust-web-src'" >&2
        return 1
    fi
}

# Fails unless PROGRAM is there; PACKAGES says what to install.
require() {
    local program=$1 packages=$2
    if ! command -v "$program" >/dev/null; then
        echo "$program is missing: apt-get install $packages" >&2
        return 1
    fi
}

cross_build() (
    target=$1 package=$2
    # A cargo that runs this script (a test, say) names its own compiler.
    unset RUSTC RUSTDOC RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
    case $target in
        aarch64-unknown-linux-gnu)
            require aarch64-linux-gnu-gcc "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
            export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
            export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
            libraries=std,panic_unwind
            ;;
        armv7-unknown-linux-gnueabihf)
            require arm-linux-gnueabihf-gcc "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross"
            export CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_LINKER=arm-linux-gnueabihf-gcc
            export CC_armv7_unknown_linux_gnueabihf=arm-linux-gnueabihf-gcc
            libraries=std,panic_unwind
            ;;
        thumbv7em-none-eabihf)
            # rustup brings this linker along, Debian does not.
            if command -v ld.lld >/dev/null; then
                export CARGO_TARGET_THUMBV7EM_NONE_EABIHF_LINKER=ld.lld
            fi
            libraries=core
            ;;
        *)
            echo "targets/toolchain.sh does not know $target" >&2
            exit 1
            ;;
    esac
    choose_cargo "$target" "$libraries"
    cd "$root"
    "${cargo[@]}" build --release --locked --package "$package" --target "$target" \
        --target-dir "$cross_folder" >&2
)

cross_program() {
    local target=$1 name=$2
    echo "$cross_folder/$target/release/$name"
}
