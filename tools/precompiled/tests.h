// The same for the tests.
#include <algorithm>
#include <filesystem>
#include <sstream>

#include "autograd/ops.h"
#include "nn/module.h"
#include "tensor/parallel.h"
#include "tests/testing.h"
