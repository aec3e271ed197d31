//! The part of cubecl-llvm's interface that cubecl-cuda needs to compile, without LLVM.
//!
//! cubecl-cuda has two back ends and links both: CUDA C++ compiled by NVRTC, and LLVM, whose build script downloads a
//! toolchain. Its feature `cpp`, which `rlvr-policies/cuda` turns on, picks NVRTC at run time, so nothing here ever
//! runs; were it asked to compile a kernel, it would answer with an error. To be looked at again with each new version
//! of cubecl-cuda: what is missing shows as a compile error.
#![warn(missing_docs)]

use cubecl_core::environment::backtrace::BackTrace;
use cubecl_core::ir::nvidia::SmArch;
use cubecl_core::prelude::KernelDefinition;
use cubecl_server::compiler::{CompilationError, Compiler};
use cubecl_server::kernel::BufferIOAttr;
use std::ffi::c_char;
use std::fmt;

/// What the compiler generates code for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LlvmTarget {
    #[default]
    Cpu,
    Nvptx,
}

/// A compiler that refuses every kernel.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct PlironCompiler {
    pub target: LlvmTarget,
}

/// Settings of a compilation.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct PlironOptions {
    pub arch: Option<()>,
    pub sm_arch: Option<SmArch>,
    pub ptx_version: Option<nvptx::ptx_version::PtxVersion>,
    pub grid_constants: bool,
}

/// A compiled kernel; never made.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct NvptxModule {
    pub ptx: Vec<c_char>,
    pub entrypoint: String,
    pub ir: String,
    pub shared_memory_size: usize,
    pub io: Vec<BufferIOAttr>,
}

/// What a compilation gives; never made.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum PlironArtifact {
    NvptxCode(NvptxModule),
}

impl fmt::Display for PlironArtifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::NvptxCode(module) = self;
        f.write_str(&module.ir)
    }
}

impl Compiler for PlironCompiler {
    type Representation = PlironArtifact;
    type CompilationOptions = PlironOptions;

    fn compile(
        &mut self,
        _: KernelDefinition,
        _: &PlironOptions,
    ) -> Result<PlironArtifact, CompilationError> {
        let reason = "this build has no LLVM: cubecl-cuda needs its feature `cpp`".to_owned();
        Err(CompilationError::Generic { reason, backtrace: BackTrace::capture() })
    }

    fn extension(&self) -> &'static str {
        "ll"
    }

    fn lang_tag(&self) -> &'static str {
        "mlir"
    }
}

#[allow(missing_docs)]
pub mod nvptx {
    pub mod ptx_version {
        /// The version of PTX to emit.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct PtxVersion(u32);

        impl PtxVersion {
            /// The newest version that a driver loads; never known here.
            pub fn for_driver(_driver: i32) -> Option<Self> {
                None
            }
        }

        impl std::fmt::Display for PtxVersion {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "ptx{}", self.0)
            }
        }
    }
}

#[allow(missing_docs)]
pub mod shared {
    pub mod lowered_features {
        use cubecl_core::ir::DeviceProperties;

        /// The target that features are narrowed for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum GpuTarget {
            Nvptx,
        }

        /// Narrows a device's features to those of the LLVM back end; only called when that one is in use.
        pub fn restrict_features(_: &mut DeviceProperties, _: GpuTarget) {}
    }
}
