//! The Python module `rlvr._rlvr`, over which `rlvr/rewards.py` stands: the rewards of `rlvr_rewards` as callables.

mod columns;
mod local;
mod reward;
mod value;

use pyo3::prelude::*;

#[pymodule]
fn _rlvr(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("VERIFIER_VERSION", rlvr_rewards::VERIFIER_VERSION)?;
    module.add("KINDS", rlvr_rewards::config::KINDS.to_vec())?;
    module.add_class::<reward::Reward>()?;
    module.add_function(wrap_pyfunction!(reward::make, module)?)?;
    module.add_function(wrap_pyfunction!(reward::from_toml, module)?)?;
    module.add_function(wrap_pyfunction!(reward::restored, module)?)
}
