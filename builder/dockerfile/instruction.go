package dockerfile

import "time"

// Instruction is one of the pointer types below.
type Instruction interface {
	// Info returns the data that all instructions have.
	Info() *Meta
	isInstruction()
}

// Meta is the data that all instructions have.
type Meta struct {
	Keyword  string // as written: RUN, run
	Source   string // the text, with continuation lines joined
	Ranges   []Range
	Comments []string // directly above
}

// Info implements [Instruction].
func (m *Meta) Info() *Meta { return m }

func (*Meta) isInstruction() {}

// Pair is a key and its value, in ENV and LABEL.
type Pair struct {
	Key, Value string
	Legacy     bool // written as "key value"
}

// CommandLine is a command in exec form (Shell is false) or one string for a
// shell.
type CommandLine struct {
	Args  []string
	Shell bool
	Files []Heredoc
}

// Heredoc is an inline document.
type Heredoc struct {
	Name   string
	Data   string
	Chomp  bool // <<-: leading tabs are removed
	Expand bool // the name was not quoted
}

// Add is an ADD instruction.
type Add struct {
	Meta
	Files
	Checksum   string
	KeepGitDir *bool
	Unpack     *bool
}

// Copy is a COPY instruction.
type Copy struct {
	Meta
	Files
	From    string
	Parents bool
}

// Files is the part that ADD and COPY share.
type Files struct {
	Sources []string
	Inline  []Heredoc // Data is the content of the file before expansion
	Dest    string
	Chown   string
	Chmod   string
	Link    bool
	Exclude []string
}

// ArgPair is one name of an ARG; Value is nil if it has no default.
type ArgPair struct {
	Key   string
	Value *string
	Doc   string // the comment above it that begins with its name
}

// The other instructions.
type (
	Arg struct {
		Meta
		Args []ArgPair
	}
	Cmd struct {
		Meta
		CommandLine
	}
	Entrypoint struct {
		Meta
		CommandLine
	}
	Env struct {
		Meta
		Pairs []Pair
	}
	Expose struct {
		Meta
		Ports []string
	}
	Healthcheck struct {
		Meta
		Test                                          []string
		Interval, Timeout, StartPeriod, StartInterval time.Duration
		Retries                                       int
	}
	Label struct {
		Meta
		Pairs []Pair
	}
	Maintainer struct {
		Meta
		Name string
	}
	Onbuild struct {
		Meta
		Trigger string
	}
	Run struct {
		Meta
		CommandLine
		Network  string // default, none or host
		Insecure bool
		Flags    []string // names of the flags that are set, sorted: mount, network
		Mounts   []Mount
		flags    *mountFlags
	}
	Shell struct {
		Meta
		Args []string
	}
	StopSignal struct {
		Meta
		Signal string
	}
	User struct {
		Meta
		Name string
	}
	Volume struct {
		Meta
		Paths []string
	}
	Workdir struct {
		Meta
		Path string
	}
)
