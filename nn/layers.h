// All layers and losses.
#pragma once
#include "attention.h"
#include "conv.h"
#include "dropout.h"
#include "embedding.h"
#include "feed_forward.h"
#include "linear.h"
#include "loss.h"
#include "norm.h"
#include "self_attention.h"
