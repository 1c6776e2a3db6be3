"""A finished model in the formats of other programs: GGUF for llama.cpp, Ollama, MLX, and the hub."""
