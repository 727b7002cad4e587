/* The program that proc_forkexec runs: static, does nothing. */
int main(void)
{
    return 0;
}
