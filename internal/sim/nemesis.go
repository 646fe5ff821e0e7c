package sim

import "time"

// fault is one kind of bad weather.
type fault struct {
	name  string
	every time.Duration
	do    func(*Sim)
}

// faults are the kinds of bad weather that come at intervals. Loss, doubling
// and delay of single messages are the network's own.
func (s *Sim) faults() []fault {
	w := &s.weather
	return []fault{
		{"cut", w.CutEvery, (*Sim).cut},
		{"break", w.BreakEvery, (*Sim).breakOne},
		{"crash", w.CrashEvery, func(s *Sim) { s.anyNode().crash("killed", s.chaos.about(w.DownFor)) }},
		{"restart", w.CleanEvery, func(s *Sim) { s.anyNode().shutdown(s.chaos.about(w.DownFor / 4)) }},
		{"power", w.PowerEvery, (*Sim).powerLoss},
		{"wipe", w.WipeEvery, (*Sim).wipe},
		{"backup", w.RewindEvery / 3, (*Sim).backUp},
		{"rewind", w.RewindEvery, (*Sim).rewind},
		{"forget", w.ForgetEvery, (*Sim).forget},
		{"freeze", w.FreezeEvery, func(s *Sim) { s.anyNode().freeze(s.chaos.about(w.FreezeFor)) }},
		{"clock", w.JumpEvery, (*Sim).jump},
		{"slow disk", w.SlowEvery, func(s *Sim) { s.anyNode().disk.slow = s.now + s.chaos.upTo(4*time.Second) }},
		{"rot", w.RotEvery, (*Sim).rot},
		{"full disk", w.FullEvery, func(s *Sim) { s.anyNode().disk.full = s.now + s.chaos.upTo(3*time.Second) }},
		{"disk failure", w.FailEvery, func(s *Sim) { s.anyNode().disk.failing = true }},
	}
}

// unleash lets the faults come at their intervals until the end of the safety
// phase.
func (s *Sim) unleash() {
	chapter := s.chapter
	for _, f := range s.faults() {
		if f.every == 0 {
			continue
		}
		var again func()
		again = func() {
			if s.healed || s.chapter != chapter {
				return
			}
			if s.rewound == nil { // nobody else dies, and forgets what the rewound one is to be told
				s.count("fault: " + f.name)
				f.do(s)
			}
			s.after(s.chaos.about(f.every), again)
		}
		s.after(s.chaos.about(f.every), again)
	}
}

// jump sets a clock, but not one of those by which the others are judged.
func (s *Sim) jump() {
	by := s.chaos.upTo(2*time.Minute) - time.Minute
	if n := s.anyNode(); !n.exact() {
		n.turnClock(by)
	}
}

// anyNode is a member.
func (s *Sim) anyNode() *node {
	nodes := s.members()
	return nodes[s.chaos.IntN(len(nodes))]
}

// cut separates nodes: one from all others, two from each other, or one half from
// the other; in both directions or in one.
func (s *Sim) cut() {
	side := make([]bool, len(s.nodes))
	most := len(s.nodes) / 2
	pair := s.chaos.hit(0.3) || s.weather.Pairs
	if pair || s.chaos.hit(0.4) {
		most = 1
	}
	for range most {
		side[s.chaos.IntN(len(s.nodes))] = true
	}
	other := s.anyNode()
	oneWay := s.chaos.hit(s.weather.OneWay)
	inward := s.chaos.hit(0.5)
	d := s.chaos.about(s.weather.CutFor)
	for _, a := range s.nodes {
		for _, b := range s.nodes {
			if !side[a.i] || side[b.i] || pair && b != other {
				continue
			}
			if !oneWay || !inward {
				s.net.cutOff(a, b, d)
			}
			if !oneWay || inward {
				s.net.cutOff(b, a, d)
			}
		}
	}
}

// breakOne breaks a connection; it is dialled anew at once.
func (s *Sim) breakOne() {
	a, b := s.anyNode(), s.anyNode()
	if a != b && a.running && s.now >= a.frozen {
		s.net.breakLink(a, b, "connection reset")
	}
}

// powerLoss stops all nodes at once.
func (s *Sim) powerLoss() {
	for _, n := range s.nodes {
		n.crash("power loss", s.chaos.about(time.Second))
	}
}

// heal ends all faults, but for a freeze that has begun. Clocks stay as wrong as they
// are.
func (s *Sim) heal() {
	s.healed = true
	s.paused = false
	s.happening(s.now, "", "everything heals")
	s.net.heal()
	for _, n := range s.nodes {
		n.disk.slow, n.disk.failing, n.disk.full = 0, false, 0
		n.start()
	}
}
