// All layers.
#pragma once
#include "attention.h"
#include "dropout.h"
#include "embedding.h"
#include "feed_forward.h"
#include "linear.h"
#include "norm.h"
