# shellcheck shell=bash
# Sourced by the scripts beside it; `root` must be the top of the checkout.
# `cross_build TARGET PROGRAM` compiles, `cross_program TARGET NAME` says where the result
# lies, `cross_cargo TARGET COMMAND ...` runs any other command of cargo.

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

# One field of a target or a board, out of boards.toml.
field() {
    python3 "$root/targets/boards.py" get "$1" "$2"
}

# The profile in which TARGET is compiled: $cross_profile, or else `board` for Linux and
# `release` for others.
profile_of() {
    case $1 in
    *-linux-*) echo "${cross_profile:-board}" ;;
    *) echo "${cross_profile:-release}" ;;
    esac
}

# Runs cargo's COMMAND (build, test ...) for TARGET with more ARGUMENTS.
cross_cargo() (
    target=$1 command=$2
    shift 2
    # A cargo that runs this script (a test, say) names its own compiler.
    unset RUSTC RUSTDOC RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
    upper=$(tr 'a-z.-' 'A-Z__' <<<"$target")
    if [[ $target == *-linux-* ]]; then
        compiler=$(field "$target" compiler) || exit
        require "$compiler" "$(field "$target" packages)" || exit
        # Static, with glibc: the program needs nothing of the board's system but its
        # kernel. At a fixed address, which saves the table of places to correct.
        flags="-Ctarget-feature=+crt-static -Crelocation-model=static $(field "$target" flags)"
        export "CARGO_TARGET_${upper}_LINKER=$compiler" "CC_${target//-/_}=$compiler"
        export "CARGO_TARGET_${upper}_RUSTFLAGS=${flags% }"
        libraries=std,panic_unwind,test
    elif [[ $target == thumbv*-none-eabihf ]]; then
        # rustup brings this linker along, Debian does not.
        if command -v ld.lld >/dev/null; then
            export "CARGO_TARGET_${upper}_LINKER=ld.lld"
        fi
        libraries=core
    else
        echo "targets/toolchain.sh does not know $target" >&2
        exit 1
    fi
    choose_cargo "$target" "$libraries" || exit
    cd "$root" || exit
    "${cargo[@]}" "$command" --profile "$(profile_of "$target")" --locked --target "$target" \
        --target-dir "$cross_folder" "$@"
)

cross_build() {
    local target=$1 program=$2 selected
    if [[ $target == thumb* ]]; then
        selected=(--package "$program")
    else
        # The whole workspace, so that dependencies have the same features in every build.
        selected=(--workspace --bin "$program" --features fieldtune-cli/mqtt)
    fi
    cross_cargo "$target" build "${selected[@]}" >&2
}

cross_program() {
    local target=$1 name=$2 profile
    profile=$(profile_of "$target")
    # Cargo's own name for the folder of that profile is another.
    echo "$cross_folder/$target/${profile/#dev/debug}/$name"
}
