"""The work of `decoder.rs` with PyTorch: greedy decoding and a training step of a SmolLM2-135M-shaped decoder.

usage: python rl/benches/peer_torch.py [threads] [steps N | decodes N ROWS]   (needs torch)

With `steps N` it trains N steps, with `decodes N ROWS` it decodes N times, and prints a line after each, for in_turn.py.
With DTYPE=bf16 in the environment weights, activations, gradients and moments are bf16.
"""
import os, resource, statistics, sys, time
import torch, torch.nn as nn, torch.nn.functional as F

torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
torch.manual_seed(0)
if os.environ.get("DTYPE") == "bf16":
    torch.set_default_dtype(torch.bfloat16)
LAYERS, D, HEADS, KV, FF, VOCAB, THETA = 30, 576, 9, 3, 1536, 49152, 1e5
HD = D // HEADS


def linear(i, o):
    return nn.Linear(i, o, bias=False)


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat([x[..., half:], x[..., :half]], -1) * sin


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.Parameter(torch.ones(D)), nn.Parameter(torch.ones(D))
        self.q, self.k, self.v, self.o = linear(D, D), linear(D, KV * HD), linear(D, KV * HD), linear(D, D)
        self.gate, self.up, self.down = linear(D, FF), linear(D, FF), linear(FF, D)

    def forward(self, x, cos, sin, cache=None, pos=0):
        b, t, _ = x.shape
        h = F.rms_norm(x, (D,), self.n1, 1e-5)
        heads = lambda y, n: y.view(b, t, n, HD).transpose(1, 2)
        q, k, v = rotate(heads(self.q(h), HEADS), cos, sin), rotate(heads(self.k(h), KV), cos, sin), heads(self.v(h), KV)
        if cache is None:
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        else:
            cache[0][:, :, pos:pos + t], cache[1][:, :, pos:pos + t] = k, v
            k, v = cache[0][:, :, :pos + t], cache[1][:, :, :pos + t]
            a = F.scaled_dot_product_attention(q.reshape(b, KV, HEADS // KV * t, HD), k, v).reshape(b, HEADS, t, HD)
        x = x + self.o(a.transpose(1, 2).reshape(b, t, D))
        h = F.rms_norm(x, (D,), self.n2, 1e-5)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Embedding(VOCAB, D), nn.Parameter(torch.ones(D))
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, 0, 0.02)

    def hidden(self, ids, cos, sin, caches=None, pos=0):
        x = self.embed(ids)
        for i, block in enumerate(self.blocks):
            x = block(x, cos, sin, None if caches is None else caches[i], pos)
        return F.rms_norm(x, (D,), self.norm, 1e-5)


model = Model()
angle = torch.arange(512)[:, None] / THETA ** (torch.arange(0, HD, 2) / HD)[None]
cos, sin = torch.cat([angle.cos()] * 2, -1), torch.cat([-angle.sin(), angle.sin()], -1)


def timed(name, tokens, f, repeats=5):
    f()
    walls, cpus = [], []
    for _ in range(repeats):
        w, c = time.perf_counter(), time.process_time()
        f()
        walls.append(time.perf_counter() - w)
        cpus.append(time.process_time() - c)
    wall, cpu = statistics.median(walls), statistics.median(cpus)
    print(f"{name}: fastest {min(walls):.3f} s, median {wall:.3f} s, cpu {cpu:.3f} s, {tokens / wall:.1f} tokens/s", flush=True)


@torch.inference_mode()
def decode(b, new=32):
    caches = [(torch.zeros(b, KV, new + 1, HD), torch.zeros(b, KV, new + 1, HD)) for _ in range(LAYERS)]
    ids = torch.arange(b)[:, None]
    for p in range(new):
        h = model.hidden(ids, cos[p:p + 1], sin[p:p + 1], caches, p)
        ids = (h[:, -1] @ model.embed.weight.T).argmax(-1, keepdim=True)
        ids.tolist()


if sys.argv[2:3] == ["decodes"]:
    for _ in range(int(sys.argv[3])):
        decode(int(sys.argv[4]))
        print("decoded", flush=True)
    sys.exit()
steps = int(sys.argv[3]) if sys.argv[2:3] == ["steps"] else 0
for b in () if steps else (1, 8, 32, 64):
    timed(f"decode {b}", b * 32, lambda: decode(b))
print(f"peak memory after decoding: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)


def train(b=8, t=256):
    ids = torch.randint(0, VOCAB, (b, t + 1))
    logits = model.hidden(ids[:, :-1], cos[:t], sin[:t]) @ model.embed.weight.T
    F.cross_entropy(logits.view(-1, VOCAB), ids[:, 1:].reshape(-1)).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


for _ in range(steps):
    train()
    print("step", flush=True)
if steps:
    sys.exit()
timed("train 8x256", 8 * 256, train)
print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
