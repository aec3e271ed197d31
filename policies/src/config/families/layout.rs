//! The decoder that a config describes, with Hugging Face's names of its tensors.
use super::tower;
use crate::config::{ModelConfig, NormPlaces, QkNorm};
use crate::spec::{
    Attention, Block, Embed, Experts, Gated, Head, Heads, Layouter, Linear, Mlp, Model, Norm, ParamLayout,
    QkNorms,
};

/// All parameters and the model that they make.
pub(crate) fn layout(c: &ModelConfig) -> ParamLayout {
    let mut p = Layouter::default();
    let table = embedding(&mut p, c);
    let blocks = (0..c.num_layers).map(|l| Layer { c, l }.block(&mut p)).collect();
    let norm = final_norm(&mut p, c);
    let weight = head(&mut p, c).unwrap_or(table);
    let tower = c.vision.as_ref().map(|vision| tower::tower(&mut p, vision, c.hidden_size));
    let model = Model {
        embed: Embed { table, scale: c.shape.embedding_scale as f32, padding: c.shape.padding },
        blocks,
        norm,
        head: Head {
            weight,
            scale: c.shape.logit_scale as f32,
            cap: c.shape.logit_cap.map(|cap| cap as f32),
        },
        hidden: c.hidden_size,
        tower,
    };
    ParamLayout { specs: p.0, model, adapters: Vec::new() }
}

/// As [`ModelConfig::tensors`].
pub(crate) fn tensors(c: &ModelConfig) -> impl Iterator<Item = (String, Vec<usize>)> + '_ {
    let of = |add: &dyn Fn(&mut Layouter)| {
        let mut p = Layouter::default();
        add(&mut p);
        let owned = |(name, shape): (&str, _)| (name.to_owned(), shape);
        p.0.iter().flat_map(|spec| spec.hf_shapes().map(owned)).collect::<Vec<_>>()
    };
    let block = move |l| {
        let mut tensors = of(&|p| drop(Layer { c, l }.block(p)));
        tensors.sort_by_key(|(name, _)| (place(name), name.ends_with(".bias")));
        tensors
    };
    let first = of(&|p| {
        embedding(p, c);
    });
    let last = of(&|p| {
        final_norm(p, c);
        head(p, c);
        if let Some(vision) = &c.vision {
            tower::tower(p, vision, c.hidden_size);
        }
    });
    first.into_iter().chain((0..c.num_layers).flat_map(block)).chain(last)
}

/// Parts of a block in the order of the forward pass.
const PARTS: [&str; 14] = [
    "input_layernorm",
    "qkv_proj",
    ".q_proj",
    "k_proj",
    "v_proj",
    "q_norm",
    "k_norm",
    "o_proj",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "mlp.gate.",
    "gate_up_proj",
    "gate_proj",
    ".up_proj",
];

fn place(name: &str) -> usize {
    PARTS.iter().position(|part| name.contains(part)).unwrap_or(PARTS.len())
}

fn embedding(p: &mut Layouter, c: &ModelConfig) -> usize {
    p.matrix(
        "embed".into(),
        c.hidden_size,
        vec![(format!("{}embed_tokens.weight", c.text_prefix()), c.vocab_size)],
    )
}

fn final_norm(p: &mut Layouter, c: &ModelConfig) -> Norm {
    let weight = p.vector("norm".into(), vec![(format!("{}norm.weight", c.text_prefix()), c.hidden_size)]);
    norm(c, weight)
}

/// The head's own matrix; none where it is the embedding.
fn head(p: &mut Layouter, c: &ModelConfig) -> Option<usize> {
    let own = !c.tie_word_embeddings;
    own.then(|| p.matrix("head".into(), c.hidden_size, vec![("lm_head.weight".into(), c.vocab_size)]))
}

fn norm(c: &ModelConfig, weight: usize) -> Norm {
    Norm { weight, eps: c.rms_norm_eps as f32, plus_one: c.shape.norm_plus_one }
}

/// One block of a config.
struct Layer<'a> {
    c: &'a ModelConfig,
    l: usize,
}

impl Layer<'_> {
    fn name(&self, name: &str) -> String {
        format!("layers.{}.{name}", self.l)
    }

    fn hf(&self, name: &str, rows: usize) -> (String, usize) {
        (format!("{}layers.{}.{name}", self.c.text_prefix(), self.l), rows)
    }

    fn norm(&self, p: &mut Layouter, name: &str, hf: &str, width: usize) -> Norm {
        norm(self.c, p.vector(self.name(name), vec![self.hf(hf, width)]))
    }

    fn linear(
        &self,
        p: &mut Layouter,
        (name, columns): (&str, usize),
        parts: &[(&str, usize)],
        bias: bool,
    ) -> Linear {
        let all = |kind: &str| {
            parts.iter().map(|(hf, rows)| self.hf(&format!("{hf}.{kind}"), *rows)).collect::<Vec<_>>()
        };
        let bias = bias.then(|| p.vector(self.name(&format!("{name}_bias")), all("bias")));
        Linear { weight: p.matrix(self.name(name), columns, all("weight")), bias }
    }

    fn block(&self, p: &mut Layouter) -> Block {
        let (c, d) = (self.c, self.c.hidden_size);
        let mut norm = |name: &str, hf: &str| self.norm(p, name, &format!("{hf}.weight"), d);
        let [first, second, third, fourth] = [
            ("input_norm", "input_layernorm"),
            ("post_norm", "post_attention_layernorm"),
            ("mlp_norm", "pre_feedforward_layernorm"),
            ("mlp_post_norm", "post_feedforward_layernorm"),
        ];
        let [attention_in, attention_out, mlp_in, mlp_out] = match c.shape.norms {
            NormPlaces::Before => [Some(norm(first.0, first.1)), None, Some(norm(second.0, second.1)), None],
            NormPlaces::Behind => {
                [None, Some(norm(second.0, second.1)), None, Some(norm(fourth.0, fourth.1))]
            }
            NormPlaces::Both => [first, second, third, fourth].map(|(name, hf)| Some(norm(name, hf))),
        };
        Block {
            attention_in,
            attention: self.attention(p),
            attention_out,
            mlp_in,
            mlp: self.mlp(p),
            mlp_out,
            residual: c.shape.residual_scale as f32,
        }
    }

    fn attention(&self, p: &mut Layouter) -> Attention {
        let c = self.c;
        let heads = Heads { heads: c.num_heads, kv_heads: c.num_kv_heads, head_dim: c.head_dim };
        let (q, kv) = (heads.out_width(), c.num_kv_heads * c.head_dim);
        let mut pair = |q: usize, k: usize| {
            let q = self.norm(p, "q_norm", "self_attn.q_norm.weight", q);
            (q, self.norm(p, "k_norm", "self_attn.k_norm.weight", k))
        };
        let norms = match c.shape.qk_norm {
            QkNorm::None => QkNorms::None,
            QkNorm::Head => {
                let (q, k) = pair(c.head_dim, c.head_dim);
                QkNorms::Head { q, k }
            }
            QkNorm::Row => {
                let (q, k) = pair(q, kv);
                QkNorms::Row { q, k }
            }
        };
        let out_bias = (c.attention_output_bias)
            .then(|| p.vector(self.name("o_bias"), vec![self.hf("self_attn.o_proj.bias", c.hidden_size)]));
        let parts: &[(&str, usize)] = match c.shape.fused {
            true => &[("self_attn.qkv_proj", q + 2 * kv)],
            false => &[("self_attn.q_proj", q), ("self_attn.k_proj", kv), ("self_attn.v_proj", kv)],
        };
        let qkv = self.linear(p, ("qkv", c.hidden_size), parts, c.attention_bias);
        let out = self.linear(p, ("o", q), &[("self_attn.o_proj", c.hidden_size)], false);
        let kind = c.shape.layer(self.l);
        let local = c.shape.local_rope_theta.is_some() && kind.window.is_some();
        let scale = c.shape.attention_scale.map(|scale| scale as f32);
        Attention {
            qkv,
            out: Linear { bias: out_bias, ..out },
            heads,
            norms,
            rotation: kind.rotated.then_some(usize::from(local)),
            window: kind.window,
            scale: scale.unwrap_or_else(|| 1.0 / (c.head_dim as f32).sqrt()),
            cap: c.shape.attention_cap.map(|cap| cap as f32),
        }
    }

    fn mlp(&self, p: &mut Layouter) -> Mlp {
        let c = self.c;
        match &c.shape.experts {
            Some(e) if !e.dense.contains(&self.l) => {
                let router = self.linear(p, ("router", c.hidden_size), &[("mlp.gate", e.count)], false);
                let expert = |i: usize| {
                    let (name, hf) = (format!("experts.{i}."), format!("mlp.experts.{i}"));
                    self.gated(p, &name, &hf, e.width)
                };
                let experts = (0..e.count).map(expert).collect();
                Mlp::Experts(Experts { router, top: e.top, normalise: e.normalise, experts })
            }
            _ => Mlp::Gated(self.gated(p, "", "mlp", c.intermediate_size)),
        }
    }

    fn gated(&self, p: &mut Layouter, name: &str, hf: &str, width: usize) -> Gated {
        let (c, d) = (self.c, self.c.hidden_size);
        let [gate, up, fused, down] =
            ["gate_proj", "up_proj", "gate_up_proj", "down_proj"].map(|part| format!("{hf}.{part}"));
        let parts: &[(&str, usize)] = match c.shape.fused {
            true => &[(&fused, 2 * width)],
            false => &[(&gate, width), (&up, width)],
        };
        let bias = c.shape.mlp_bias;
        let gate_up = self.linear(p, (&format!("{name}gate_up"), d), parts, bias);
        let down = self.linear(p, (&format!("{name}down"), width), &[(&down, d)], bias);
        Gated { gate_up, down, act: c.shape.activation }
    }
}
