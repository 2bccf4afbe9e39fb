#!/usr/bin/env python3
"""Times PyTorch on the work that `rondo bench` times: the reference model on fixed random tokens, Adam at 1e-4, clipping at 0.5.

usage: pytorch.py train|decode [--size readme|small|tiny] [--threads N] [--steps N] [--context N] [--tokens N]

Needs `pip install torch einops beartype packaging` and `pip install --no-deps block-recurrent-transformer-pytorch==0.3.2`.
Prints one JSON line with the fields of `rondo bench`. The reference runs with its fused attention; the first step is not timed.
"""
import argparse
import json
import resource
import time

import torch
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


def train(args):
    model, batch, segments = build(args.size)
    wrapper = RecurrentTrainerWrapper(model)
    adam = torch.optim.Adam(model.parameters(), lr=1e-4)
    length = model.max_seq_len * segments
    tokens = torch.randint(0, 256, (batch, length + 1))
    seconds = []
    for _ in range(args.steps + 1):
        start = time.perf_counter()
        loss = wrapper(tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        adam.step()
        adam.zero_grad()
        seconds.append(time.perf_counter() - start)
    seconds = sorted(seconds[1:])
    n = batch * length
    return dict(tokens_per_s=n / seconds[len(seconds) // 2], best_tokens_per_s=n / seconds[0], final_loss=loss.item())


@torch.no_grad()
def decode(args):
    model, _, _ = build(args.size)
    wrapper = RecurrentTrainerWrapper(model.eval())
    prompt = torch.randint(0, 256, (1, args.context))
    start = time.perf_counter()
    wrapper.generate(prompt, length=args.context + args.tokens)
    return dict(tokens_per_s=args.tokens / (time.perf_counter() - start))


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('what', choices=('train', 'decode'))
    parser.add_argument('--size', choices=SIZES, default='readme')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--steps', type=int, default=5)
    parser.add_argument('--context', type=int, default=128)
    parser.add_argument('--tokens', type=int, default=32)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result = {'train': train, 'decode': decode}[args.what](args)
    result.update(what=args.what, size=args.size, dtype='f32', threads=args.threads, torch=torch.__version__,
                  peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(json.dumps(result))
