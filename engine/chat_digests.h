/* Made by tests/reference/chat.py. */
// clang-format off
{"f684f8fbcf83f20019a7d2348fbb779bb15b98c521a57c3024b9cb4458e43f32", "chatml"}, /* axolotl-chatml.jinja */
{"827b1b44d7e035c3f79e595cfd2472e7f08a2764ccbb98d1d4e95d96f882ae0b", "chatml"}, /* teknium-OpenHermes-2.5-Mistral-7B */
{"d3a0def017a2375da38d22f044e3ec02719b4733de9697f5dd023c0480456d6a", "chatml"}, /* trl-qwen3_instruct_2507.jinja */
{"ef0829bf42c538a9bbd234c9664d95d9504fb8e6939b293dea2c595107b35170", "qwen2.5"}, /* trl-qwen2_5.jinja */
{"b9dfc3e866d8e1360059a0d3bb3094ef035279d0a5bdb60bab369537cf0b9ece", "qwen3"}, /* trl-qwen3.jinja */
{"9f5090d79b6197a19b77603444b9cf5282ab6ca2ca628f365f76bd94ce22418d", "qwen3"}, /* Qwen-Qwen3-0.6B */
{"05facb19f527d33e1ba2066abb9656dc46ff7f61a33d5419bbd0f773d3519478", "llama3"}, /* trl-llama3.jinja */
{"57a8c20780bfb41e320b31e7d20285cb33a0a23b65ddf18c92e65feadb207e71", "llama3.1"}, /* trl-llama3_1.jinja */
{"51e68c9f989467577fb67f8e1d45e58110c1ca737735c3662bd62c2d93112828", "llama3.2"}, /* trl-llama3_2.jinja */
{"d2b69567bd62e7debbf059d5ae3b0ff624047cfb6c63985b568576d915ad9e50", "mistral"}, /* mistralai-Mistral-7B-Instruct-v0.2 */
{"69fa5266447ad711ab8e930f2b4f0ce98e77e4f4b775b8578442ebfe4df1ee13", "mistral-v0.1"}, /* mistralai-Mistral-7B-Instruct-v0.1 */
{"468f1aa9c9cc8ebd0b12c0eb24a573bcfdb3487bf43d88215b097881ea25d23c", "mistral-system"}, /* axolotl-mistral_v1.jinja */
{"9cb6aa86bbd06210bd8679b8396bda5613c5730debe3c0b24e8d3c14ea894ac6", "mistral-v3"}, /* axolotl-mistral_v2v3.jinja */
{"f0ba0be2f352fcd913b00715009f03ebfb9e91168c65f6554035745ed1865308", "mistral-v3"}, /* mistralai-Mistral-7B-Instruct-v0.3 */
{"532301824678294da9caa7ffbda691d056eace1d1293306e2e11cbc793f31a2b", "mistral-tekken"}, /* axolotl-mistral_v3_tekken.jinja */
{"72495f784453d4d1891ae507a92fc48ac388164a320bd5de3251523344cb42be", "mistral-tekken"}, /* mistralai-Mistral-Nemo-Instruct-2407 */
