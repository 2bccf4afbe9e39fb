// What nearly every file of tensor/cpu includes, read once for all of them: Eigen takes longer than what is built on
// it. No file may count on this, each includes what it uses: -Db_pch=false builds without, in less space.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "tensor/cpu/heads.h"
#include "tensor/cpu/lanes.h"
#include "tensor/cpu/rows.h"
#include "tensor/cpu/scratch.h"
#include "tensor/cpu/vector.h"
#include "tensor/kernels.h"
#include "tensor/parallel.h"
