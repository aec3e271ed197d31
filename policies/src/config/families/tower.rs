//! The towers that configs describe, with Hugging Face's names of their tensors. Parameters are called `vision.*` and
//! `projector.*`.
use crate::config::{Vision, VisionFamily};
use crate::spec::{
    Act, Gated, LayerNorm, Layouter, Linear, Merger, Norm, Plain, Projector, Tower, TowerAct, TowerBlock,
    TowerMlp, TowerNorm,
};

struct Names<'a> {
    p: &'a mut Layouter,
    v: &'a Vision,
}

/// Adds the parameters of a tower in front of a text of width `hidden`.
pub(super) fn tower(p: &mut Layouter, v: &Vision, hidden: usize) -> Tower {
    let mut n = Names { p, v };
    let smol = v.family == VisionFamily::Smol;
    let (patch, biased) = match v.family {
        VisionFamily::Smol => ("embeddings.patch_embedding", true),
        VisionFamily::Qwen3 => ("patch_embed.proj", true),
        VisionFamily::Qwen2 | VisionFamily::Qwen25 => ("patch_embed.proj", false),
    };
    let (frames, side) = (v.frames, v.patch);
    let sizes: &[usize] = if smol { &[3, side, side] } else { &[3, frames, side, side] };
    let weight =
        n.p.patches("vision.patch".into(), sizes, (format!("{}{patch}.weight", v.prefix()), v.width));
    let bias = biased.then(|| n.vector("vision.patch_bias", &[&format!("{patch}.bias")], v.width));
    let table = (v.positions > 0).then(|| {
        let hf = if smol { "embeddings.position_embedding" } else { "pos_embed" };
        n.p.matrix(
            "vision.positions".into(),
            v.width,
            vec![(format!("{}{hf}.weight", v.prefix()), v.positions)],
        )
    });
    let blocks = (0..v.depth).map(|l| n.block(l)).collect();
    let post = smol.then(|| n.norm("vision.post_norm", "post_layernorm", v.width));
    let projector = if smol {
        let hf = "model.connector.modality_projection.proj.weight".to_owned();
        let inside = v.width * v.merge * v.merge;
        let weight = n.p.matrix("projector.proj".into(), inside, vec![(hf, hidden)]);
        Projector::Shuffle(Linear { weight, bias: None })
    } else {
        Projector::Merger(n.merger("projector", "merger", hidden, false))
    };
    let deep = v.deep.iter().enumerate().map(|(i, block)| {
        (
            *block,
            n.merger(
                &format!("projector.deepstack.{i}"),
                &format!("deepstack_merger_list.{i}"),
                hidden,
                true,
            ),
        )
    });
    let deep = deep.collect();
    Tower {
        patch: Linear { weight, bias },
        table,
        blocks,
        post,
        projector,
        deep,
        width: v.width,
        heads: v.heads,
        merged: v.merge * v.merge,
    }
}

impl Names<'_> {
    fn hf(&self, name: &str) -> String {
        format!("{}{name}", self.v.prefix())
    }

    fn vector(&mut self, name: &str, hf: &[&str], width: usize) -> usize {
        let parts = hf.iter().map(|hf| (self.hf(hf), width)).collect();
        self.p.vector(name.into(), parts)
    }

    /// A layer from Hugging Face layers of `rows` rows each, with biases.
    fn linear(&mut self, name: &str, hf: &[&str], (inside, rows): (usize, usize)) -> Linear {
        let of = |n: &Self, kind: &str| {
            hf.iter().map(|hf| (n.hf(&format!("{hf}.{kind}")), rows)).collect::<Vec<_>>()
        };
        let weight = self.p.matrix(name.into(), inside, of(self, "weight"));
        let bias = self.p.vector(format!("{name}_bias"), of(self, "bias"));
        Linear { weight, bias: Some(bias) }
    }

    fn norm(&mut self, name: &str, hf: &str, width: usize) -> TowerNorm {
        let (eps, weight) = (self.v.eps as f32, self.vector(name, &[&format!("{hf}.weight")], width));
        match self.v.family {
            VisionFamily::Qwen25 => TowerNorm::Rms(Norm { weight, eps, plus_one: false }),
            VisionFamily::Qwen2 | VisionFamily::Qwen3 | VisionFamily::Smol => {
                let bias = self.vector(&format!("{name}_bias"), &[&format!("{hf}.bias")], width);
                TowerNorm::Layer(LayerNorm { weight, bias, eps })
            }
        }
    }

    fn block(&mut self, l: usize) -> TowerBlock {
        let (v, smol) = (self.v, self.v.family == VisionFamily::Smol);
        let (own, d) = (format!("vision.blocks.{l}."), v.width);
        let at = if smol { format!("encoder.layers.{l}.") } else { format!("blocks.{l}.") };
        let name = |name: &str| format!("{own}{name}");
        let hf = |name: &str| format!("{at}{name}");
        let (first, second) = if smol { ("layer_norm1", "layer_norm2") } else { ("norm1", "norm2") };
        let attention_in = self.norm(&name("attention_norm"), &hf(first), d);
        let qkv = if smol {
            let [q, k, v] = ["q", "k", "v"].map(|part| hf(&format!("self_attn.{part}_proj")));
            self.linear(&name("qkv"), &[&q, &k, &v], (d, d))
        } else {
            self.linear(&name("qkv"), &[&hf("attn.qkv")], (d, 3 * d))
        };
        let out =
            self.linear(&name("o"), &[&hf(if smol { "self_attn.out_proj" } else { "attn.proj" })], (d, d));
        let mlp_in = self.norm(&name("mlp_norm"), &hf(second), d);
        let inner = v.inner;
        let mut plain = |first: &str, second: &str| {
            let first = self.linear(&name("up"), &[&hf(first)], (d, inner));
            let second = self.linear(&name("down"), &[&hf(second)], (inner, d));
            TowerMlp::Plain(Plain { first, second, act: v.act })
        };
        let mlp = match v.family {
            VisionFamily::Qwen25 => {
                let gate_up = [hf("mlp.gate_proj"), hf("mlp.up_proj")];
                let gate_up = self.linear(&name("gate_up"), &[&gate_up[0], &gate_up[1]], (d, inner));
                let down = self.linear(&name("down"), &[&hf("mlp.down_proj")], (inner, d));
                TowerMlp::Gated(Gated { gate_up, down, act: Act::Silu })
            }
            VisionFamily::Qwen3 => plain("mlp.linear_fc1", "mlp.linear_fc2"),
            VisionFamily::Qwen2 | VisionFamily::Smol => plain("mlp.fc1", "mlp.fc2"),
        };
        let windowed = v.window.is_some() && !v.full.contains(&l);
        TowerBlock { attention_in, qkv, out, mlp_in, mlp, windowed }
    }

    fn merger(&mut self, name: &str, hf: &str, hidden: usize, joined: bool) -> Merger {
        let inside = self.v.width * self.v.merge * self.v.merge;
        let third = self.v.family == VisionFamily::Qwen3;
        let (norm, first, second) =
            if third { ("norm", "linear_fc1", "linear_fc2") } else { ("ln_q", "mlp.0", "mlp.2") };
        let width = if joined { inside } else { self.v.width };
        let norm = self.norm(&format!("{name}.norm"), &format!("{hf}.{norm}"), width);
        let first = self.linear(&format!("{name}.up"), &[&format!("{hf}.{first}")], (inside, inside));
        let second = self.linear(&format!("{name}.down"), &[&format!("{hf}.{second}")], (inside, hidden));
        Merger { norm, joined, mlp: Plain { first, second, act: TowerAct::Gelu } }
    }
}
