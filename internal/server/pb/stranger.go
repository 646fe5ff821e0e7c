package pb

import "time"

// Who has not come in yet can ask for nothing but to be let in, which takes few bytes and a
// moment. So he may neither take the memory that requests share nor hold a place for long.
const (
	strangerFrame = 4 << 10 // the longest frame of his: a login's name and password are far shorter
	strangerParts = 6       // his whole time, in parts of which each is Options.ReadGrace
)

// barred says why the connection may make no requests but those that let it in; nil: it may,
// as its user where security is enabled, and as nobody where it is not.
func (c *conn) barred() error {
	o := &c.server.o
	switch {
	case o.TLS != nil && c.tls == nil:
		return errPlain
	case o.Gate == nil || !o.Gate.Secured():
		c.user = nil
		if o.OwnMachine && !c.fromHere() {
			return errStranger
		}
		return nil
	case c.tls == nil:
		return errPlain
	case c.user == nil || c.user.Valid() != nil:
		c.user = nil
		return errUnknown
	}
	return nil
}

// linger notes since when somebody is a stranger, and ends the connection of one who has
// been it for too long, whatever he does meanwhile. Why is that of barred.
func (c *conn) linger(why error) error {
	if why == nil {
		c.strange = time.Time{}
		return nil
	}
	now := time.Now()
	if c.strange.IsZero() {
		c.strange = now
	}
	if now.Sub(c.strange) >= strangerParts*c.server.o.ReadGrace {
		return errEnded
	}
	return nil
}

// patience is how long the connection may be quiet between two requests. Why is that of
// barred.
func (c *conn) patience(why error) time.Duration {
	o := &c.server.o
	if why == nil {
		return o.IdleTimeout
	}
	return min(o.ReadGrace, o.IdleTimeout)
}
