//! What a program needs of a CPU, and what this machine's has, where compilers are told to use more than every CPU has
//! (`-C target-cpu=native`).

/// Features by name, with whether this build's code may use them, and whether this CPU has them.
macro_rules! features {
    ($($arch:literal, $detected:ident: [$($feature:tt)*];)*) => {
        /// Those that the code of this build may use.
        pub(crate) fn needed() -> impl Iterator<Item = &'static str> {
            let mut all = Vec::new();
            $(
                #[cfg(target_arch = $arch)]
                features!(@needed all, $($feature)*);
            )*
            all.into_iter()
        }

        /// Whether this CPU has the feature; one that this build does not know it has not.
        pub(crate) fn has(name: &str) -> bool {
            $(
                #[cfg(target_arch = $arch)]
                features!(@has name, $detected, $($feature)*);
            )*
            let _ = name;
            false
        }
    };
    (@needed $all:ident, $($feature:tt)*) => {$(
        if cfg!(target_feature = $feature) {
            $all.push($feature);
        }
    )*};
    (@has $name:ident, $detected:ident, $($feature:tt)*) => {
        match $name {
            $($feature => return std::arch::$detected!($feature),)*
            _ => {}
        }
    };
}

features! {
    "x86_64", is_x86_feature_detected: [
        "sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "aes" "pclmulqdq" "avx" "avx2" "fma" "f16c" "bmi1" "bmi2" "lzcnt" "movbe"
        "adx" "sha" "rdrand" "rdseed" "avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl" "avx512vnni" "avx512bf16"
        "avx512ifma" "avx512vbmi" "avx512vbmi2" "avx512bitalg" "avx512vpopcntdq" "vaes" "vpclmulqdq" "gfni"
    ];
    "aarch64", is_aarch64_feature_detected: [
        "neon" "aes" "sha2" "sha3" "crc" "lse" "rdm" "dotprod" "fp16" "sve" "sve2" "i8mm" "bf16"
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_cpu_has_what_this_build_needs() {
        let missing: Vec<_> = needed().filter(|feature| !has(feature)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(!has("quantum"));
    }
}
