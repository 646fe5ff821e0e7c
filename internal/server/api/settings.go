package api

// Setting is an option of a server with its value.
type Setting struct {
	Name      string `json:"name"`
	Value     string `json:"value"`               // hidden where it is a secret
	Effective string `json:"effective,omitempty"` // what a value stands for that means another: 0, often
	Source    string `json:"source"`              // "default", "file", "environment", "flag" or "set"
	Where     string `json:"where,omitempty"`     // which flag or variable, or which line of which file
	Live      bool   `json:"live"`                // can be changed while the server runs
}

// Settings are all options of a server.
type Settings struct {
	Node     string    `json:"node,omitempty"` // absent: of no server that runs
	Settings []Setting `json:"settings"`
}

// SetOrder asks for another value of an option, until the next start.
type SetOrder struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}
