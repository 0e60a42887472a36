# Sourced by the scripts beside it. `choose_cargo TARGET LIBRARIES` sets the array
# `cargo` to the command that compiles for TARGET: rustup's where that target is
# installed, else Debian's Rust, which builds the standard library's parts
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
