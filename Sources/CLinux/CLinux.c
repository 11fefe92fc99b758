// The one thing that cannot be inline: storage. Linked into the archive beside the Swift object.
#include "CLinux.h"

static _Thread_local char error_buffer[CL_ERROR_BUFFER_SIZE];

char *cl_error_buffer(void) { return error_buffer; }
