// Package policy contains tests of rules for the whole tree.
//
// Packages import strictly downwards, package comments state a purpose, functions,
// files, types and packages stay small, comments use plain words, and deps.txt lists
// the modules in the binary. The tests use the standard library only.
package policy
