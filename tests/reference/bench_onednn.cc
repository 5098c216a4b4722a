/*
 * Matrix products by oneDNN with weights in the layout that it chooses itself, beside those that
 * `muster bench engine --what matmul` measures: the same shapes, rows and rule (as many copies of
 * the matrix as the model has bytes, up to 256 MiB, in turn; the best of three runs of 40 ms).
 *
 *   g++ -O2 tests/reference/bench_onednn.cc -ldnnl -o bench_onednn && OMP_NUM_THREADS=2 ./bench_onednn
 *
 * needs libdnnl-dev
 */
#include <dnnl.hpp>

#include <chrono>
#include <cstdio>
#include <vector>

using namespace dnnl;
using tag = memory::format_tag;

static double now()
{
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

static double seconds(engine &e, stream &s, long M, long N, long K, size_t model_bytes)
{
    const auto f32 = memory::data_type::f32;
    const size_t most = (size_t)256 << 20, total = model_bytes < most ? model_bytes : most;
    const size_t n_copies = total / (size_t)(N * K * 4) + 1;
    memory::desc x_md({M, K}, f32, tag::ab), y_md({M, N}, f32, tag::ab);
    memory::desc w_md({N, K}, f32, tag::any), plain({N, K}, f32, tag::ab);
    inner_product_forward::desc d(prop_kind::forward_inference, x_md, w_md, y_md);
    inner_product_forward::primitive_desc pd(d, e);
    inner_product_forward product(pd);
    memory x(x_md, e), y(y_md, e), W(plain, e);
    std::vector<memory> packed;

    for (long i = 0; i < M * K; i++)
        ((float *)x.get_data_handle())[i] = (float)(i % 127 - 63) / 64;
    for (long i = 0; i < N * K; i++)
        ((float *)W.get_data_handle())[i] = (float)(i % 129 - 64) / 4096;
    for (size_t i = 0; i < n_copies; i++) {
        packed.emplace_back(pd.weights_desc(), e);
        reorder(W, packed[i]).execute(s, W, packed[i]);
    }
    s.wait();
    double best = 0;
    for (int run = 0; run < 3; run++) {
        double start = now();
        size_t n = 0;
        do {
            for (size_t i = 0; i < n_copies && (n < n_copies || i < 4); i++, n++)
                product.execute(s, {{DNNL_ARG_SRC, x},
                                    {DNNL_ARG_WEIGHTS, packed[i]},
                                    {DNNL_ARG_DST, y}});
            s.wait();
        } while (now() - start < 0.04);
        double t = (now() - start) / (double)n;
        if (run == 0 || t < best)
            best = t;
    }
    return best;
}

int main()
{
    const struct {
        const char *name;
        long dim, q, ffn, vocab;
        size_t params;
    } shapes[] = {{"15m", 288, 288, 768, 32000, 15191712},
                  {"110m", 768, 768, 2048, 32000, 109529856},
                  {"0.5b", 896, 896, 4864, 151936, 494000000}};
    const long rows[] = {1, 4, 8, 16, 32, 64, 128, 512};
    engine e(engine::kind::cpu, 0);
    stream s(e);

    for (const auto &m : shapes) {
        const long sizes[][2] = {
            {m.q, m.dim}, {m.ffn, m.dim}, {m.dim, m.ffn}, {m.vocab, m.dim}};
        for (const auto &nk : sizes)
            for (long M : rows) {
                double t = seconds(e, s, M, nk[0], nk[1], m.params * 4);
                std::printf("matmul_%s_%ldx%ld_m%ld_f32 oneDNN_packed %.1f GFLOP/s\n", m.name,
                            nk[0], nk[1], M, 2e-9 * (double)(M * nk[0] * nk[1]) / t);
                std::fflush(stdout);
            }
    }
}
