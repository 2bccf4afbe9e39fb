#!/usr/bin/env python3
"""Times PyTorch on the work that `rondo bench` times: the reference model on fixed random tokens, Adam at 1e-4, clipping at 0.5.

usage: pytorch.py train  [--size readme|small|tiny] [--device cpu|cuda] [--threads N] [--dtype f32|bf16] [--steps N]
                         [--batch N] [--compile]
       pytorch.py decode [--size readme|small|tiny] [--device cpu|cuda] [--threads N] [--context N] [--tokens N] [--cached]

Needs `pip install torch einops beartype packaging` and `pip install --no-deps block-recurrent-transformer-pytorch==0.3.2`.
Prints one JSON line with the fields of `rondo bench`. The reference runs with its fused attention; the first step is not timed.
bf16 is autocast. Decoding is the reference's `generate`, or with --cached a loop written by hand that keeps keys and values.
"""
import argparse
import json
import resource
import time
import warnings

import torch
import torch.nn.functional as F
from block_recurrent_transformer_pytorch import BlockRecurrentTransformer, RecurrentTrainerWrapper

SIZES = {  # model, batch, segments
    'readme': (dict(dim=512, depth=6, dim_head=64, heads=8, max_seq_len=1024, block_width=512, num_state_vectors=512,
                    recurrent_layers=(4,)), 1, 2),
    'small': (dict(dim=128, depth=4, dim_head=32, heads=4, max_seq_len=256, block_width=128, num_state_vectors=128,
                   recurrent_layers=(3,)), 8, 2),
    'tiny': (dict(dim=64, depth=2, dim_head=16, heads=4, max_seq_len=64, block_width=32, num_state_vectors=32,
                  recurrent_layers=(2,)), 4, 2),
}


def build(size):
    options, batch, segments = SIZES[size]
    torch.manual_seed(0)
    return BlockRecurrentTransformer(num_tokens=256, use_flash_attn=True, **options), batch, segments


def now(args):
    if args.device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter()


def train(args):
    with torch.device(args.device):  # not around the steps: it would slow them
        model, batch, segments = build(args.size)
    batch = args.batch or batch
    wrapper = RecurrentTrainerWrapper(model)
    if args.compile:
        torch._dynamo.config.recompile_limit = 64  # layers, and whether there are memories and states, differ
        wrapper.transformer = torch.compile(wrapper.transformer)
    adam = torch.optim.Adam(model.parameters(), lr=1e-4)
    length = model.max_seq_len * segments
    tokens = torch.randint(0, 256, (batch, length + 1), device=args.device)
    seconds = []
    warm = 5 if args.compile else 1
    for _ in range(args.steps + warm):
        start = now(args)
        with torch.autocast(args.device, dtype=torch.bfloat16, enabled=args.dtype == 'bf16'):
            loss = wrapper(tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        adam.step()
        adam.zero_grad()
        seconds.append(now(args) - start)
    seconds = sorted(seconds[warm:])
    n = batch * length
    return dict(tokens_per_s=n / seconds[len(seconds) // 2], mean_tokens_per_s=n * len(seconds) / sum(seconds),
                best_tokens_per_s=n / seconds[0], final_loss=loss.item())


def heads(x, n):
    return x.unflatten(-1, (n, -1)).transpose(1, 2)


def attend(q, k, v):
    return F.scaled_dot_product_attention(q, k[:, None], v[:, None]).transpose(1, 2).flatten(2)


class LayerCache:
    """Keys and values of one layer: rows 0..W-1 are the block before, W..2W-1 the block so far; row r has position r."""

    def __init__(self, layer, window, cos, sin, scale):
        self.layer, self.window, self.state = layer, window, layer.state_container if layer.is_recurrent_layer else None
        self.q_turn, self.k_turn = (cos * scale, sin * scale), (cos / scale, sin / scale)
        width = layer.to_kv.out_features // 2
        self.turned, self.v = torch.empty(1, 2 * window, width), torch.empty(1, 2 * window, width)
        self.raw_k = torch.empty(1, window, width)  # of this block, as the state's write takes them
        if self.state is not None:
            self.prepare(self.state.init_state[None])

    def prepare(self, state):
        normed = self.state.state_norm(state) + self.state.state_pos_ids
        k, v = self.state.state_to_kv(normed).chunk(2, -1)
        self.prepared = state, normed, k, v
        self.state_k = self.scaled(self.state.to_state_cross_attn, k, 'k_scale')

    @staticmethod
    def scaled(attn, x, name):
        return F.normalize(x, dim=-1) * getattr(attn, name) if attn.qk_rmsnorm else x

    def turn(self, x, turn, first):
        a, b = x.chunk(2, -1)
        cos, sin = (t[first:first + x.shape[-2]] for t in turn)
        return x * cos + torch.cat((-b, a), -1) * sin

    def read(self, h, filled, has_memory):
        layer, position = self.layer, self.window + filled
        k, v = layer.to_kv(h).chunk(2, -1)
        self.raw_k[:, filled:filled + 1] = k
        self.turned[:, position:position + 1] = self.turn(self.scaled(layer.attn, k, 'k_scale'), self.k_turn, position)
        self.v[:, position:position + 1] = v
        seen = slice(filled + 1 if has_memory else self.window, position + 1)  # at most W keys, this one included
        q = self.turn(self.scaled(layer.attn, heads(layer.to_q(h), layer.heads), 'q_scale'), self.q_turn, position)
        out = attend(q, self.turned[:, seen], self.v[:, seen])
        if self.state is None:
            return out
        q = self.scaled(self.state.to_state_cross_attn, heads(self.state.q_to_state(h), layer.heads), 'q_scale')
        return torch.cat((out, attend(q, self.state_k, self.prepared[3])), -1)

    def finish_block(self):
        own_v = self.v[:, self.window:].clone()
        if self.state is not None:
            self.state.cache = self.prepared
            self.prepare(self.state.write(memories=(self.raw_k, own_v)))
        self.turned[:, :self.window] = self.turn(self.scaled(self.layer.attn, self.raw_k, 'k_scale'), self.k_turn, 0)
        self.v[:, :self.window] = own_v


class CachedDecoder:
    def __init__(self, model):
        self.model, self.filled, self.has_memory = model, 0, False
        window = model.block_width
        angles, scale = model.rotary_pos_emb(2 * window)
        self.caches = [LayerCache(layer, window, angles.cos(), angles.sin(), scale) for layer, _ in model.layers]

    def step(self, token):  # [1, 1] -> logits [1, V]
        x = self.model.token_emb(token)
        for cache, (layer, feed_forward) in zip(self.caches, self.model.layers):
            x = x + layer.to_out(cache.read(layer.norm(x), self.filled, self.has_memory))
            x = x + feed_forward(x)
        self.filled += 1
        if self.filled == self.model.block_width:
            for cache in self.caches:
                cache.finish_block()
            self.filled, self.has_memory = 0, True
        return self.model.to_logits(x)[:, -1]


@torch.no_grad()
def decode(args):
    with torch.device(args.device):
        model, _, _ = build(args.size)
    model.eval()
    prompt = torch.randint(0, 256, (1, args.context), device=args.device)
    if not args.cached:
        start = now(args)
        RecurrentTrainerWrapper(model).generate(prompt, length=args.context + args.tokens)
        return dict(tokens_per_s=args.tokens / (now(args) - start), context=args.context, cached=False)
    with torch.device(args.device):
        decoder = CachedDecoder(model)
    for i in range(args.context):
        logits = decoder.step(prompt[:, i:i + 1])
    if args.context <= model.max_seq_len:
        torch.testing.assert_close(logits, model(prompt)[0][:, -1], rtol=1e-4, atol=1e-4)
    start = now(args)
    model(prompt[:, :model.max_seq_len])
    prefill = min(args.context, model.max_seq_len) / (now(args) - start)
    seconds = []
    for _ in range(args.tokens):
        start = now(args)
        logits = decoder.step(logits.argmax(-1, keepdim=True))
        seconds.append(now(args) - start)
    return dict(tokens_per_s=args.tokens / sum(seconds), best_tokens_per_s=1 / min(seconds), context=args.context,
                prefill_tokens_per_s=prefill, cached=True)


if __name__ == '__main__':
    warnings.filterwarnings('ignore', category=FutureWarning)  # of the reference, about a context manager it uses
    parser = argparse.ArgumentParser()
    parser.add_argument('what', choices=('train', 'decode'))
    parser.add_argument('--size', choices=SIZES, default='readme')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--dtype', choices=('f32', 'bf16'), default='f32')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument('--compile', action='store_true', help='train what torch.compile makes of the model')
    parser.add_argument('--batch', type=int, default=0, help="rows of a batch; 0: the size's")
    parser.add_argument('--steps', type=int, default=5)
    parser.add_argument('--context', type=int, default=128)
    parser.add_argument('--tokens', type=int, default=32)
    parser.add_argument('--cached', action='store_true')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result = {'train': train, 'decode': decode}[args.what](args)
    result.update(what=args.what, size=args.size, dtype=args.dtype, device=args.device, threads=args.threads, torch=torch.__version__,
                  peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(json.dumps(result))
