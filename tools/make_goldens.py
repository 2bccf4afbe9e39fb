#!/usr/bin/env python3
"""Write golden cases with the PyTorch reference: what tests/goldens holds and `rondo verify` checks.

Setting the reference up (about 5 GB):

    python3 -m venv .deps/reference
    .deps/reference/bin/pip install torch numpy einops beartype packaging safetensors
    .deps/reference/bin/pip install --no-deps block-recurrent-transformer-pytorch==0.3.2
    .deps/reference/bin/python tools/make_goldens.py OUT_DIR [NAME...]

Without names all cases below are written. The reference runs in float64 and the results are stored rounded to float32,
so they are the truth to float32 precision; `torch_f32_max_abs_err` in config.json says how far PyTorch's own float32
run is from it. The files are described in tests/goldens/README.md.
"""
import json
import os
import sys
import warnings

warnings.filterwarnings('ignore')
import torch
import torch.nn.functional as F
from block_recurrent_transformer_pytorch import BlockRecurrentTransformer, RecurrentTrainerWrapper
from safetensors.torch import save_file

VERSION = '0.3.2'
CLIP = 0.5

# `model` holds the reference's constructor arguments; what is left out there takes the reference's default.
CASES = {
    'tiny': dict(
        model=dict(num_tokens=64, dim=32, depth=3, dim_head=16, heads=2, max_seq_len=32, block_width=16,
                   num_state_vectors=8, recurrent_layers=[2]),
        batch=2, segments=3, partial=21, generate=70, train_steps=30, lr=3e-3, seed=1),
    'two_recurrent': dict(
        model=dict(num_tokens=50, dim=48, depth=4, dim_head=8, heads=3, max_seq_len=36, block_width=12,
                   num_state_vectors=20, recurrent_layers=[1, 4], all_layers_qk_rmsnorm=True, ff_mult=2),
        batch=2, segments=2, partial=29, generate=80, train_steps=20, lr=3e-3, seed=2, ignored=17),
    # an odd number of heads, of a width that fits no vector register
    'odd_heads': dict(
        model=dict(num_tokens=40, dim=20, depth=2, dim_head=6, heads=3, max_seq_len=24, block_width=8,
                   num_state_vectors=5, recurrent_layers=[2], ff_mult=3),
        batch=2, segments=2, partial=13, generate=30, train_steps=6, lr=3e-3, seed=3),
    # softmax over a single state is the constant 1: no gradient reaches queries and keys
    'one_state': dict(
        model=dict(num_tokens=32, dim=24, depth=2, dim_head=8, heads=2, max_seq_len=16, block_width=8,
                   num_state_vectors=1, recurrent_layers=[1]),
        batch=3, segments=3, partial=9, generate=40, train_steps=6, lr=3e-3, seed=5),
    # W = N: the state's write lies behind the border of a segment and gets no gradient at all
    'one_block': dict(
        model=dict(num_tokens=48, dim=24, depth=2, dim_head=8, heads=2, max_seq_len=16, block_width=16,
                   num_state_vectors=4, recurrent_layers=[2]),
        batch=3, segments=3, partial=7, generate=40, train_steps=6, lr=3e-3, seed=3),
    # two recurrent layers in a row, segments of four blocks
    'in_a_row': dict(
        model=dict(num_tokens=36, dim=16, depth=3, dim_head=8, heads=2, max_seq_len=24, block_width=6,
                   num_state_vectors=7, recurrent_layers=[2, 3]),
        batch=3, segments=2, partial=20, generate=40, train_steps=6, lr=3e-3, seed=3),
    # more tokens than bytes; default recurrent layer and number of states; ignored labels; one head, a batch of one
    'vocabulary_300': dict(
        model=dict(num_tokens=300, dim=16, depth=2, dim_head=4, heads=1, max_seq_len=12, block_width=6),
        batch=1, segments=2, partial=8, generate=24, train_steps=6, lr=3e-3, seed=5, ignored=3),
    # no recurrence: a Transformer-XL
    'no_recurrence': dict(
        model=dict(num_tokens=40, dim=24, depth=2, dim_head=10, heads=2, max_seq_len=20, block_width=10,
                   recurrent_layers=[]),
        batch=2, segments=3, partial=13, generate=50, train_steps=6, lr=3e-3, seed=6),
}


class Case:
    def __init__(self, model, batch, segments, partial, generate, train_steps, lr, seed, ignored=0):
        self.segments, self.partial, self.generate = segments, partial, generate
        self.train_steps, self.lr, self.seed, self.ignored = train_steps, lr, seed, ignored
        self.arguments = dict(model)
        if 'recurrent_layers' in model:
            self.arguments['recurrent_layers'] = tuple(model['recurrent_layers'])
        self.n_tokens = model['num_tokens']
        self.length = model['max_seq_len']
        torch.manual_seed(seed)
        fresh = BlockRecurrentTransformer(**self.arguments)
        for name, p in fresh.named_parameters():
            if name.endswith(('gamma', 'q_scale', 'k_scale')):  # 1 at first: a forgotten factor would not show
                p.data.add_(0.3 * torch.randn_like(p))
        self.weights = {k: v.detach().clone().contiguous() for k, v in fresh.state_dict().items()}
        self.tokens = torch.randint(0, self.n_tokens, (batch, segments * self.length + 1))

    def model(self, dtype):
        m = BlockRecurrentTransformer(**self.arguments).to(dtype)
        m.load_state_dict({k: v.to(dtype) for k, v in self.weights.items()})
        return m.eval()

    def segment(self, s):
        return self.tokens[:, s * self.length:(s + 1) * self.length]

    @torch.no_grad()
    def forward(self, m):
        out, memories, states = {}, [], []
        for s in range(self.segments):
            out[f'logits.{s}'], memories, states = m(self.segment(s), xl_memories=memories, states=states)
            out.update({f'xl_memories.{s}.{i}': t for i, t in enumerate(memories)})
            out.update({f'states.{s}.{i}': t for i, t in enumerate(states)})
        n = self.partial
        out['partial.logits'] = m(self.tokens[:, :n])[0]
        _, memories, states = m(self.segment(0))
        out['partial.carried_logits'] = m(self.tokens[:, self.length:self.length + n], xl_memories=memories,
                                          states=states)[0]
        return out

    @torch.no_grad()
    def greedy(self, m):
        prime = self.tokens[:, :max(1, self.length // 3)]
        seq, memories, states, base, margin = prime.clone(), [], [], 0, float('inf')
        while seq.shape[1] < prime.shape[1] + self.generate:
            window = seq[:, base:]
            logits, next_memories, next_states = m(window, xl_memories=memories, states=states)
            best = logits[:, -1].topk(2).values
            margin = min(margin, (best[:, 0] - best[:, 1]).min().item())
            seq = torch.cat((seq, logits[:, -1].argmax(-1, keepdim=True)), 1)
            if window.shape[1] == self.length:
                memories, states, base = next_memories, next_states, base + self.length
        return {'generate.prime': prime, 'generate.greedy': seq[:, prime.shape[1]:],
                'generate.min_margin': torch.tensor([margin])}

    def gradients(self, m):
        out = {}
        if self.ignored:
            labels = self.tokens[:, 1:].clone()
            places = torch.randperm(labels.numel(), generator=torch.Generator().manual_seed(self.seed + 1))
            labels.view(-1)[places[:self.ignored]] = -100
            out['labels'] = labels
            loss, memories, states = 0., [], []
            for s in range(self.segments):
                logits, memories, states = m(self.segment(s), xl_memories=memories, states=states)
                part = labels[:, s * self.length:(s + 1) * self.length]
                loss = loss + F.cross_entropy(logits.transpose(1, 2), part, ignore_index=-100) / self.segments
        else:
            loss = RecurrentTrainerWrapper(m)(self.tokens)
        loss.backward()
        out['loss'] = loss.detach().reshape(1)
        for name, p in m.named_parameters():
            out['grad.' + name] = torch.zeros_like(p) if p.grad is None else p.grad
        return out

    def train(self, m):
        wrapper, optimizer = RecurrentTrainerWrapper(m).eval(), torch.optim.Adam(m.parameters(), lr=self.lr)
        g = torch.Generator().manual_seed(self.seed + 2)
        batches = torch.randint(0, self.n_tokens, (self.train_steps, *self.tokens.shape), generator=g)
        batches[:, :, 1::2] = batches[:, :, 0:-1:2]  # learnable: every odd token repeats the one before
        losses, norms = [], []
        for batch in batches:
            loss = wrapper(batch)
            loss.backward()
            norms.append(torch.nn.utils.clip_grad_norm_(m.parameters(), CLIP).item())
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        return {'train.tokens': batches, 'train.losses': torch.tensor(losses, dtype=torch.float64),
                'train.grad_norms': torch.tensor(norms, dtype=torch.float64)}

    def run(self, dtype):
        m = self.model(dtype)
        out = {**self.forward(m), **self.greedy(m), **self.gradients(m)}
        return {**out, **self.train(self.model(dtype))}


def float32_errors(truth, f32):
    errors = {}
    for name, t in truth.items():
        if t.is_floating_point():
            group = name if name.startswith(('train', 'generate')) else name.split('.')[0]
            errors[group] = max(errors.get(group, 0.), (t - f32[name].double()).abs().max().item())
    return errors


def write(name, spec, out_dir):
    case = Case(**spec)
    truth, f32 = case.run(torch.float64), case.run(torch.float32)
    config = {
        'reference': 'block-recurrent-transformer-pytorch ' + VERSION, 'model': spec['model'], 'batch': spec['batch'],
        'segments': spec['segments'], 'partial': spec['partial'],
        'train': {'steps': spec['train_steps'], 'lr': spec['lr'], 'betas': [0.9, 0.999], 'eps': 1e-8,
                  'clip_grad_norm': CLIP},
        'torch_f32_max_abs_err': float32_errors(truth, f32)}
    stored = {k: (t.float() if t.is_floating_point() else t).contiguous().clone() for k, t in truth.items()}
    stored['tokens'] = case.tokens
    folder = os.path.join(out_dir, name)
    os.makedirs(folder, exist_ok=True)
    with open(folder + '/config.json', 'w') as f:
        json.dump(config, f, indent=1)
    save_file(case.weights, folder + '/weights.safetensors', metadata={'format': 'pt'})
    save_file(stored, folder + '/expected.safetensors')
    size = sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder))
    print(f"{name}: {size} bytes, loss {truth['loss'].item():.6f}, margin {truth['generate.min_margin'].item():.1e}")


if __name__ == '__main__':
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for name in sys.argv[2:] or CASES:
        if name not in CASES:
            sys.exit(f"make_goldens: no case '{name}'; there are {', '.join(CASES)}")
        write(name, CASES[name], sys.argv[1])
