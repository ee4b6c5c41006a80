// Package repotest holds the repository to its own rules: what the compose file may start, how the Makefile and the
// continuous integration script look, and how Go files are laid out. It contains only tests.
package repotest
