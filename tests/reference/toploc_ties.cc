// Which indices std::partial_sort and std::nth_element leave among the first k, for
// tests/unit/proto/test_toploc.c: g++ -O2 toploc_ties.cc && ./a.out
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <utility>
#include <vector>

int main()
{
    const size_t sizes[][3] = {{5, 2, 11},       {80, 4, 11},      {100, 50, 11},
                               {256, 4, 97},     {1000, 100, 11},  {2048, 128, 97},
                               {8191, 128, 997}, {8192, 128, 97},  {8192, 128, 997},
                               {20000, 128, 97}, {20000, 300, 499}};
    for (auto [n, k, magnitudes] : sizes) {
        std::vector<std::pair<int, uint64_t>> v;
        for (uint64_t i = 0; i < n; i++)
            v.push_back({int((7919 * i * i + 13 * i) % magnitudes), i});
        auto first = [](const auto &x, const auto &y) { return x.first > y.first; };
        if (k * 64 <= n)
            std::partial_sort(v.begin(), v.begin() + k, v.end(), first);
        else
            std::nth_element(v.begin(), v.begin() + k - 1, v.end(), first);
        uint64_t sum = 0;
        for (size_t i = 0; i < k; i++)
            sum += (v[i].second + 1) * (v[i].second + 1) * (v[i].second + 1);
        std::printf("        {%zu, %zu, %zu, %llu},\n", n, k, magnitudes,
                    (unsigned long long)sum);
    }
}
