package membership

import "github.com/tanodb/tanodb/internal/ring"

// Lacks are the warnings of the state's ring as it is.
func Lacks(s *State) []ring.Warning { return lacks(s.ring, s.targetN, s.claimers()) }
