// The same for what is not a kernel: tensor, autograd, nn and models.
#include <algorithm>
#include <cmath>
#include <sstream>

#include "autograd/ops.h"
#include "nn/module.h"
#include "tensor/check.h"
#include "tensor/dispatch.h"
#include "tensor/kernels.h"
