// What it costs to start a program that links LibTorch and does nothing (bench/start_and_load.py).
int main() { return 0; }
