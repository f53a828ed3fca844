// Package policy holds the rules that the tree as a whole keeps, as tests.
//
// Packages import strictly downwards, every package says what it is, functions
// and files stay short enough to read, and the modules that end up in the binary
// are written down in deps.txt. The tests use the standard library only.
package policy
