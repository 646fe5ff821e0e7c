// Package lint holds the rules of this repository as ordinary tests: which
// package may import which, what code below the line may not do, and how files
// are kept. It has no other code, and nothing imports it.
//
// Each rule is a function from source text to findings, so that it can be
// tested itself on small sources that it must flag; then it is run over the
// whole repository. A finding says where, what is wrong, and what to do.
package lint
