#include "embedding_launch.hpp"
#include "instance.hpp"

SSM_OPERATION(embedding, Embedding, float)
SSM_OPERATION(embedding, Embedding, double)
