//go:build planted

package main

import (
	"os"

	"github.com/tanodb/tanodb/internal/planted"
)

// A program with this build tag, which none is that anybody should use, runs with the
// bug that the environment names. Tests of real processes show with it that they
// would find such a bug.
func init() { planted.Plant(planted.Bug(os.Getenv("TANODB_PLANTED"))) }
