/* See cuda_runtime.h. */
#include "cuda_runtime.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fcntl.h>
#include <map>
#include <mutex>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

emulated_place *emulator_place;

struct emulated_graph {
    std::vector<std::function<cudaError_t()>> work;
};

struct emulated_event {
    unsigned long until; /* of late copies */
};

namespace
{

const unsigned threads_max = 1024, lanes = 32, cluster_max = 8, fibers_max = 2048;
const size_t stack_bytes = 128 << 10, shared_bytes = 228 << 10;

enum waits { runs, at_barrier, at_cluster, at_exchange, is_over };

struct async_copy {
    void *to;
    const void *from; /* NULL: zeros */
    size_t bytes;
};

/* To the host: taken in its turn, and there as late as may be. */
struct late_copy {
    void *to;
    std::vector<unsigned char> bytes;
};

struct fiber {
    void *sp;
    unsigned char *stack;
    void *fake; /* AddressSanitizer's */
    emulated_place place;
    waits state;
    unsigned mask;
    std::vector<async_copy> copies;             /* not yet committed */
    std::deque<std::vector<async_copy>> groups; /* not yet waited for */
};

fiber fibers[fibers_max];
fiber *running;
void *scheduler_sp;
void *scheduler_fake;
const void *scheduler_bottom;
size_t scheduler_size;
const std::function<void()> *body;
unsigned char slots[fibers_max][64];
__attribute__((aligned(128))) unsigned char shared[cluster_max][shared_bytes];
cudaError_t last_error, planned_error;
bool is_lost; /* as a device that fell off the bus: whatever is asked of it fails */
std::mutex memory;
std::map<void *, size_t> sizes;
size_t taken;
std::mutex one_at_a_time;
std::mutex late;
std::deque<late_copy> late_copies;
unsigned long n_arrived; /* late copies that have been there before these */
emulated_graph *captured;
bool is_descending;
int capability = 9;
bool has_kernels = true;
unsigned long n_timed;

[[noreturn]] void stop(const char *what)
{
    fprintf(stderr, "cuda emulator: %s\n", what);
    abort();
}

/* Saves the callee's registers on this stack, its end in *from, and goes on with `to`. */
#if defined(__x86_64__)
extern "C" void emulator_switch(void **from, void *to);
__asm__(".text\n.globl emulator_switch\n.type emulator_switch,@function\nemulator_switch:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp, (%rdi)\nmovq %rsi, %rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
        ".size emulator_switch, .-emulator_switch\n");
#else
#error "the emulator knows x86-64 only"
#endif

void to_scheduler()
{
#if SANITIZED
    __sanitizer_start_switch_fiber(&running->fake, scheduler_bottom, scheduler_size);
#endif
    emulator_switch(&running->sp, scheduler_sp);
#if SANITIZED
    __sanitizer_finish_switch_fiber(running->fake, nullptr, nullptr);
#endif
}

void fiber_main()
{
#if SANITIZED
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_bottom, &scheduler_size);
#endif
    for (;
         ;) { /* fibers are kept: AddressSanitizer makes a stack of its own for every new one */
        (*body)();
        running->state = is_over;
        to_scheduler();
    }
}

void start(fiber *f)
{
    if (!f->stack) {
        void *p = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            stop("no memory for a stack");
        f->stack = static_cast<unsigned char *>(p);
        void **sp = reinterpret_cast<void **>(f->stack + stack_bytes);
        *--sp = nullptr; /* keeps the stack aligned as after a call */
        *--sp = reinterpret_cast<void *>(fiber_main);
        for (int i = 0; i < 6; i++)
            *--sp = nullptr;
        f->sp = sp;
    }
    f->state = runs;
    f->copies.clear();
    f->groups.clear();
}

void resume(fiber *f)
{
    running = f;
    emulator_place = &f->place;
    f->state = runs;
#if SANITIZED
    __sanitizer_start_switch_fiber(&scheduler_fake, f->stack, stack_bytes);
#endif
    emulator_switch(&scheduler_sp, f->sp);
#if SANITIZED
    __sanitizer_finish_switch_fiber(scheduler_fake, nullptr, nullptr);
#endif
}

/* Whether every lane of f's mask waits for the same exchange. */
bool is_complete(const fiber *warp, unsigned n, const fiber *f)
{
    for (unsigned i = 0; i < lanes; i++) {
        if (!(f->mask >> i & 1u))
            continue;
        if (i >= n || warp[i].state == is_over)
            stop("a warp exchange names a lane that is over or does not exist");
        if (warp[i].state != at_exchange || warp[i].mask != f->mask)
            return false;
    }
    return true;
}

/* Runs a warp until all its lanes are over or at the block's barrier. */
void run_warp(fiber *warp, unsigned n)
{
    for (bool moved = true; moved;) {
        bool go[lanes] = {};
        moved = false;
        for (unsigned i = 0; i < n; i++)
            go[i] = warp[i].state == runs ||
                    (warp[i].state == at_exchange && is_complete(warp, n, &warp[i]));
        for (unsigned j = 0; j < n; j++) {
            unsigned i = is_descending ? n - 1 - j : j;
            if (go[i]) {
                resume(&warp[i]);
                moved = true;
            }
        }
    }
    for (unsigned i = 0; i < n; i++)
        if (warp[i].state == at_exchange)
            stop("a warp exchange that not all lanes of its mask reach");
}

/* Lets the n threads of a block or cluster go on if all of them wait at `barrier`. */
bool let_go(fiber *of, unsigned n, waits barrier)
{
    unsigned n_there = 0;

    for (unsigned i = 0; i < n; i++)
        n_there += of[i].state == barrier;
    if (n_there < n)
        return false;
    for (unsigned i = 0; i < n; i++)
        of[i].state = runs;
    return true;
}

/* Blocks of n threads each. */
void run_cluster(unsigned n, unsigned blocks, size_t shared_size)
{
    const unsigned n_warps = (n + lanes - 1) / lanes;

    for (unsigned i = 0; i < n * blocks; i++)
        start(&fibers[i]);
    for (unsigned b = 0; b < blocks; b++)
        memset(shared[b], 0xff, shared_size);
    for (bool moved = true; moved;) {
        unsigned n_over = 0;
        for (unsigned j = 0; j < n_warps * blocks; j++) {
            unsigned at = is_descending ? n_warps * blocks - 1 - j : j, w = at % n_warps;
            run_warp(fibers + at / n_warps * n + w * lanes,
                     n - w * lanes < lanes ? n - w * lanes : lanes);
        }
        for (unsigned i = 0; i < n * blocks; i++)
            n_over += fibers[i].state == is_over;
        if (n_over == n * blocks)
            return;
        moved = let_go(fibers, n * blocks, at_cluster);
        for (unsigned b = 0; b < blocks; b++)
            moved = let_go(fibers + b * n, n, at_barrier) || moved;
    }
    stop("a barrier that not all threads of the block or cluster reach");
}

/* MUSTER_EMULATED_FAIL=n:FILE: from the process's n-th launch on the device fails, unless there is a FILE
 * already; it is made then, so that only one process does. */
cudaError_t launched()
{
    static const char *const text = getenv("MUSTER_EMULATED_FAIL");
    static std::atomic<unsigned long long> left(text ? strtoull(text, nullptr, 10) : 0);

    if (left > 0 && --left == 0) {
        const char *file = strchr(text, ':');
        int made = file ? open(file + 1, O_CREAT | O_EXCL | O_WRONLY, 0600) : -1;

        is_lost = made >= 0;
        if (made >= 0)
            close(made);
    }
    return is_lost ? cudaErrorLaunchFailure : cudaSuccess;
}

/* Bytes of the device: MUSTER_EMULATED_MIB of them, or 4 GiB. */
size_t memory_bytes()
{
    static const char *const text = getenv("MUSTER_EMULATED_MIB");

    return text ? (size_t)strtoull(text, nullptr, 10) << 20 : (size_t)4 << 30;
}

/* That a block may have: 227 KiB as on Hopper, or fewer, as other GPUs. */
size_t shared_most()
{
    static const char *const text = getenv("MUSTER_EMULATED_SHARED_KIB");

    return text ? (size_t)strtoull(text, nullptr, 10) << 10 : shared_bytes - 1024;
}

cudaError_t result(cudaError_t e)
{
    if (is_lost)
        e = cudaErrorLaunchFailure;
    if (planned_error) {
        e = planned_error;
        planned_error = cudaSuccess;
    }
    if (e)
        last_error = e;
    return e;
}

} // namespace

void emulator_barrier()
{
    running->state = at_barrier;
    to_scheduler();
}

void emulator_cluster_barrier()
{
    running->state = at_cluster;
    to_scheduler();
}

const void *emulator_cluster_at(const void *at, unsigned rank)
{
    return shared[rank] +
           (static_cast<const unsigned char *>(at) - shared[running->place.rank]);
}

void emulator_warp_barrier(unsigned mask)
{
    /* A block's last warp may be short. */
    unsigned n = running->place.block_dim.x * running->place.block_dim.y *
                 running->place.block_dim.z,
             first = (unsigned)(running - fibers) / lanes * lanes;
    if (n - first < lanes)
        mask &= (1u << (n - first)) - 1u;
    running->mask = mask;
    running->state = at_exchange;
    to_scheduler();
}

void emulator_exchange(unsigned mask, void *to, const void *mine, size_t bytes, unsigned from)
{
    unsigned self = (unsigned)(running - fibers), first = self / lanes * lanes;
    if (bytes > sizeof(slots[0]))
        stop("too large a value in a warp exchange");
    if (!(mask >> (self - first) & 1u) || !(mask >> from & 1u))
        stop("a warp exchange outside its mask");
    memcpy(slots[self], mine, bytes);
    emulator_warp_barrier(mask);
    memcpy(to, slots[first + from], bytes);
    emulator_warp_barrier(mask);
}

void emulator_gather(void *all, const void *mine, size_t bytes)
{
    unsigned self = (unsigned)(running - fibers), first = self / lanes * lanes;
    if (bytes > sizeof(slots[0]))
        stop("too large a value in a warp exchange");
    memcpy(slots[self], mine, bytes);
    emulator_warp_barrier(0xffffffffu);
    for (unsigned i = 0; i < lanes; i++)
        memcpy(static_cast<unsigned char *>(all) + i * bytes, slots[first + i], bytes);
    emulator_warp_barrier(0xffffffffu);
}

void emulator_copy_async(void *to, const void *from, size_t bytes, bool is_there)
{
    if ((uintptr_t)to % bytes != 0 || (is_there && (uintptr_t)from % bytes != 0))
        stop("an asynchronous copy whose address is not a multiple of its size");
    running->copies.push_back({to, is_there ? from : nullptr, bytes});
}

void emulator_copy_commit()
{
    running->groups.push_back(running->copies);
    running->copies.clear();
}

void emulator_copy_wait(unsigned groups)
{
    for (; running->groups.size() > groups; running->groups.pop_front())
        for (const async_copy &c : running->groups.front()) {
            if (c.from)
                memcpy(c.to, c.from, c.bytes);
            else
                memset(c.to, 0, c.bytes);
        }
}

void *emulator_shared()
{
    return shared[running->place.rank];
}

cudaError_t emulator_launch(unsigned cluster, dim3 grid, dim3 block, size_t shared_size,
                            const std::function<void()> &kernel)
{
    std::lock_guard<std::mutex> lock(one_at_a_time);
    unsigned n = block.x * block.y * block.z;

    if (n == 0 || n > threads_max || shared_size > shared_most() || grid.x == 0 ||
        grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535 || cluster == 0 ||
        cluster > cluster_max || grid.x % cluster != 0 || n * cluster > fibers_max ||
        (cluster > 1 && n % lanes != 0))
        return result(cudaErrorInvalidValue);
    body = &kernel;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x += cluster) {
                for (unsigned i = 0; i < n * cluster; i++) {
                    unsigned at = i % n, rank = i / n;
                    uint3 t = {at % block.x, at / block.x % block.y, at / block.x / block.y};
                    fibers[i].place = {t, {x + rank, y, z}, block, grid, rank};
                }
                run_cluster(n, cluster, shared_size);
            }
    is_descending = !is_descending;
    return result(launched());
}

cudaError_t emulator_enqueue(const std::function<cudaError_t()> &work)
{
    if (!captured)
        return work();
    captured->work.push_back(work);
    return cudaSuccess;
}

cudaError_t emulator_kernels(struct cudaFuncAttributes *about)
{
    about->binaryVersion = 10 * capability;
    return result(has_kernels ? cudaSuccess : cudaErrorNoKernelImageForDevice);
}

extern "C" {

void emulator_fail_next(cudaError_t e)
{
    planned_error = e;
}

void emulator_be(int major, bool has_some)
{
    capability = major;
    has_kernels = has_some;
}

unsigned long emulator_timed(void)
{
    return n_timed;
}

/* Late copies up to number `until` are there. */
static void arrive(unsigned long until)
{
    std::lock_guard<std::mutex> lock(late);

    for (; n_arrived < until && !late_copies.empty(); n_arrived++) {
        memcpy(late_copies[0].to, late_copies[0].bytes.data(), late_copies[0].bytes.size());
        late_copies.pop_front();
    }
}

static cudaError_t copy_late(void *to, const void *from, size_t n)
{
    const unsigned char *bytes = static_cast<const unsigned char *>(from);
    std::lock_guard<std::mutex> lock(late);

    late_copies.push_back({to, {bytes, bytes + n}});
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 1;
    return result(cudaSuccess);
}

cudaError_t cudaSetDevice(int i)
{
    return result(i == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int i)
{
    memset(p, 0, sizeof(*p));
    snprintf(p->name, sizeof(p->name), "emulated on the CPU");
    p->totalGlobalMem = memory_bytes();
    p->sharedMemPerBlockOptin = shared_most();
    p->major = capability;
    p->multiProcessorCount = 4;
    p->l2CacheSize = 1 << 20;
    return result(i == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
{
    std::lock_guard<std::mutex> lock(memory);
    *total = memory_bytes();
    *free = taken < *total ? *total - taken : 0;
    return result(cudaSuccess);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags)
{
    (void)flags;
    *s = nullptr;
    return result(cudaSuccess);
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    (void)s;
    return result(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    (void)s;
    arrive(~0ul);
    return result(cudaSuccess);
}

cudaError_t cudaDeviceSynchronize(void)
{
    arrive(~0ul);
    return result(cudaSuccess);
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t e = last_error;
    last_error = cudaSuccess;
    return e;
}

const char *cudaGetErrorString(cudaError_t e)
{
    return e == cudaSuccess                 ? "no error"
           : e == cudaErrorMemoryAllocation ? "out of memory"
           : e == cudaErrorLaunchFailure    ? "unspecified launch failure"
                                            : "an error";
}

const char *cudaGetErrorName(cudaError_t e)
{
    return e == cudaSuccess                 ? "cudaSuccess"
           : e == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation"
           : e == cudaErrorLaunchFailure    ? "cudaErrorLaunchFailure"
                                            : "cudaErrorInvalidValue";
}

cudaError_t cudaMalloc(void **p, size_t n)
{
    std::lock_guard<std::mutex> lock(memory);

    *p = nullptr;
    if (is_lost)
        return result(cudaErrorLaunchFailure);
    if (n > memory_bytes() - taken || posix_memalign(p, 256, n ? n : 1) != 0)
        return result(cudaErrorMemoryAllocation);
    memset(*p, 0xff, n); /* what nobody wrote is NaN */
    sizes[*p] = n;
    taken += n;
    return result(cudaSuccess);
}

cudaError_t cudaFree(void *p)
{
    arrive(~0ul);
    std::lock_guard<std::mutex> lock(memory);
    const auto at = sizes.find(p);

    if (at != sizes.end()) {
        taken -= at->second;
        sizes.erase(at);
    }
    free(p);
    return result(cudaSuccess);
}

cudaError_t cudaHostAlloc(void **p, size_t n, unsigned flags)
{
    (void)flags;
    return cudaMalloc(p, n);
}

cudaError_t cudaFreeHost(void *p)
{
    return cudaFree(p);
}

cudaError_t cudaEventCreate(cudaEvent_t *e)
{
    *e = new emulated_event;
    return result(cudaSuccess);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags)
{
    (void)flags;
    return cudaEventCreate(e);
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    delete e;
    return result(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    std::lock_guard<std::mutex> lock(late);

    (void)s;
    e->until = n_arrived + late_copies.size();
    return result(cudaSuccess);
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    arrive(e->until);
    return result(captured ? cudaErrorLaunchFailure : cudaSuccess);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    (void)from;
    (void)to;
    *ms = 1.0f;
    n_timed++;
    return result(cudaSuccess);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode)
{
    (void)s;
    (void)mode;
    captured = new emulated_graph;
    return result(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph)
{
    (void)s;
    *graph = captured;
    captured = nullptr;
    return result(cudaSuccess);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph,
                                 unsigned long long flags)
{
    (void)flags;
    *exec = new emulated_graph(*graph);
    return result(cudaSuccess);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s)
{
    (void)s;
    for (const auto &work : exec->work) {
        cudaError_t e = work();
        if (e)
            return result(e);
    }
    return result(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return result(cudaSuccess);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return result(cudaSuccess);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, enum cudaMemcpyKind kind,
                            cudaStream_t s)
{
    (void)s;
    return result(emulator_enqueue([=] {
        if (kind == cudaMemcpyDeviceToHost)
            return copy_late(to, from, n);
        if (n > 0)
            memmove(to, from, n);
        return cudaSuccess;
    }));
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t n, cudaStream_t s)
{
    (void)s;
    return result(emulator_enqueue([=] {
        if (n > 0)
            memset(to, value, n);
        return cudaSuccess;
    }));
}

} /* extern "C" */
