// The header as C++17.
#include <guestram.h>

#include <memory>

int main() {
    guestram_options_t options{};
    options.size = sizeof options;
    guestram_t *memory = nullptr;
    if (guestram_create(&options, &memory) < 0)
        return 1;
    std::unique_ptr<guestram_t, decltype(&guestram_destroy)> owner(memory, &guestram_destroy);
    return 0;
}
