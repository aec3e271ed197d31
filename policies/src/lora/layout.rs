//! Adapters as parameters of a decoder.
use super::{LoraSettings, lora_error};
use crate::error::PolicyError;
use crate::spec::{Adapter, AdapterPart, Layouter, Mlp, Model, ParamLayout};

/// What PEFT puts before the names of modules.
const PREFIX: &str = "base_model.model.";

/// The weights of layers that can have an adapter: attention and the MLPs of all tokens.
fn linear(model: &Model) -> impl Iterator<Item = usize> {
    model.blocks.iter().flat_map(|block| {
        let mlp = match &block.mlp {
            Mlp::Gated(mlp) => vec![mlp.gate_up.weight, mlp.down.weight],
            Mlp::Experts(_) => Vec::new(),
        };
        [block.attention.qkv.weight, block.attention.out.weight].into_iter().chain(mlp)
    })
}

/// The modules that have an adapter, those of attention and those of MLPs.
pub(super) fn adapted(layout: &ParamLayout) -> [Vec<String>; 2] {
    let names = |weights: &[usize]| {
        let adapters = weights.iter().filter_map(|weight| layout.adapters.get(*weight)?.as_ref());
        let tensors =
            adapters.flat_map(|adapter| &adapter.parts).flat_map(|part| layout.specs[part.b].hf_names());
        let name = |tensor: &str| {
            tensor.strip_prefix(PREFIX).and_then(|t| t.strip_suffix(".lora_B.weight")).map(str::to_owned)
        };
        tensors.filter_map(name).collect::<Vec<_>>()
    };
    let (mut attention, mut mlp) = (Vec::new(), Vec::new());
    for block in &layout.model.blocks {
        attention.extend(names(&[block.attention.qkv.weight, block.attention.out.weight]));
        if let Mlp::Gated(gated) = &block.mlp {
            mlp.extend(names(&[gated.gate_up.weight, gated.down.weight]));
        }
    }
    [attention, mlp]
}

fn module(tensor: &str) -> &str {
    tensor.strip_suffix(".weight").unwrap_or(tensor)
}

impl LoraSettings {
    /// The layout of a decoder with adapters behind its parameters.
    ///
    /// # Errors
    /// Settings out of range, patterns that cannot be used, targets that no layer has or that cannot have an adapter.
    pub(crate) fn extend(&self, base: &ParamLayout) -> Result<ParamLayout, PolicyError> {
        self.check()?;
        let mut specs = Layouter(base.specs.clone());
        let mut adapters = vec![None; base.specs.len()];
        let mut modules = Vec::new();
        for weight in linear(&base.model) {
            let spec = &base.specs[weight];
            let (mut parts, mut of_a, mut first, mut ranks) = (Vec::new(), Vec::new(), 0, 0);
            for (tensor, rows) in spec.parts() {
                let module = module(tensor);
                modules.push(module);
                if self.adapts(module)? {
                    let (rank, scale) = self.of(module)?;
                    of_a.push((format!("{PREFIX}{module}.lora_A.weight"), rank));
                    parts.push((
                        format!("{PREFIX}{module}.lora_B.weight"),
                        first..first + rows,
                        ranks..ranks + rank,
                        scale,
                    ));
                    ranks += rank;
                }
                first += rows;
            }
            if parts.is_empty() {
                continue;
            }
            let a = specs.matrix(format!("{}.lora_a", spec.name), spec.shape[1], of_a);
            let part = |(i, (tensor, out, ranks, scale)): (
                usize,
                (String, std::ops::Range<usize>, std::ops::Range<usize>, f32),
            )| {
                let name = format!("{}.lora_b{i}", spec.name);
                let b = specs.matrix(name, ranks.len(), vec![(tensor, out.len())]);
                AdapterPart { b, out, ranks, scale }
            };
            let parts = parts.into_iter().enumerate().map(part).collect();
            adapters[weight] = Some(Adapter { a, parts });
        }
        self.all_found(&modules)?;
        if adapters.iter().all(Option::is_none) {
            return Err(lora_error("no layer has an adapter".into()));
        }
        Ok(ParamLayout { specs: specs.0, model: base.model.clone(), adapters })
    }

    /// Every pattern of ranks and alphas names a layer that has an adapter.
    ///
    /// # Errors
    /// The pattern that names none.
    pub(crate) fn patterns_found(&self, layout: &ParamLayout) -> Result<(), PolicyError> {
        let modules = adapted(layout).concat();
        let ranks = self.rank_pattern.iter().map(|(pattern, _)| ("rank_pattern", pattern));
        let alphas = self.alpha_pattern.iter().map(|(pattern, _)| ("alpha_pattern", pattern));
        for (key, pattern) in ranks.chain(alphas) {
            let named = super::targets::ending(pattern)?;
            if !modules.iter().any(|module| named.is_match(module)) {
                let ends = ends(modules.iter().map(String::as_str));
                return Err(lora_error(format!(
                    "{key}: `{pattern}` names no layer with an adapter; there are {ends}"
                )));
            }
        }
        Ok(())
    }

    /// Every name of the targets is one of a layer that can have an adapter.
    fn all_found(&self, modules: &[&str]) -> Result<(), PolicyError> {
        let super::Targets::Names(names) = &self.targets else { return Ok(()) };
        let unknown = names.iter().find(|name| !modules.iter().any(|m| super::targets::is_named(m, name)));
        let Some(name) = unknown else { return Ok(()) };
        let ends = ends(modules.iter().copied());
        Err(lora_error(format!("no layer `{name}` can have an adapter; there are {ends}")))
    }
}

/// The last parts of the names of modules, each once.
fn ends<'a>(modules: impl Iterator<Item = &'a str>) -> String {
    let mut ends: Vec<&str> = modules.filter_map(|m| m.rsplit('.').next()).collect();
    ends.sort_unstable();
    ends.dedup();
    ends.join(", ")
}
