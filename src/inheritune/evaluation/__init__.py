"""What models can do: losses on fixed validation documents, small questions, tasks, generation, and rivals in fewer bits."""
