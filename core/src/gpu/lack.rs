//! Why a machine has no GPU that can be used.

use std::fmt;

/// What there is to say where nobody finds a GPU: as a clause for people, behind `this machine has none: `.
#[derive(Debug, Clone, Default)]
pub struct Lack {
    /// The program is built so that it could use one.
    pub is_built_in: bool,
    /// What looks like a GPU, computes on CPUs, and does not count.
    pub software: Vec<String>,
    /// Libraries that were looked for and are not there, each with what it is a part of.
    pub missing: Vec<String>,
    /// Variables that are set and may hide some.
    pub hiding: Vec<&'static str>,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_built_in {
            return f.write_str("this program is built without the features that find one: cuda, wgpu");
        }
        match &self.software[..] {
            [] => f.write_str("its drivers show none")?,
            all => write!(
                f,
                "its drivers show only {}, which computes on CPUs; `.software_gpu(true)` or DISTFUN_SOFTWARE_GPU=1 has it count",
                all.join(" and ")
            )?,
        }
        self.missing.iter().try_for_each(|library| write!(f, "; {library} was not found"))?;
        if self.missing.is_empty() {
            return self.hiding.iter().try_for_each(|name| write!(f, "; {name} is set, and may hide some"));
        }
        f.write_str(" (a container is given GPUs when it is started: `docker run --gpus all`)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_no_gpu_is_what_can_be_done_about_it() {
        assert_eq!(Lack::default().to_string(), "this program is built without the features that find one: cuda, wgpu");
        let bare = Lack { is_built_in: true, ..Lack::default() };
        assert_eq!(bare.to_string(), "its drivers show none");
        let software = Lack { software: vec!["llvmpipe (LLVM 19)".into()], ..bare.clone() };
        assert_eq!(
            software.to_string(),
            "its drivers show only llvmpipe (LLVM 19), which computes on CPUs; `.software_gpu(true)` or \
             DISTFUN_SOFTWARE_GPU=1 has it count"
        );
        let missing = Lack { missing: vec!["libcuda.so.1 (NVIDIA's driver)".into()], ..bare.clone() };
        assert_eq!(
            missing.to_string(),
            "its drivers show none; libcuda.so.1 (NVIDIA's driver) was not found (a container is given GPUs when it is \
             started: `docker run --gpus all`)"
        );
        let hidden = Lack { hiding: vec!["CUDA_VISIBLE_DEVICES"], ..bare };
        assert_eq!(hidden.to_string(), "its drivers show none; CUDA_VISIBLE_DEVICES is set, and may hide some");
    }
}
