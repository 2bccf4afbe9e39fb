// The program `rondo`: a subcommand a file. Exit 0 done, 1 failed, 2 usage; errors are one line on stderr.
