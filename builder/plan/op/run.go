package op

// Run executes a command in the tree below (input 0). Mounts may use further
// inputs.
type Run struct {
	Args     []string  `json:"args"`                // Args[0] is looked up in the PATH of Env, inside the tree
	Env      []string  `json:"env"`                 // the whole environment, in order; it always has PATH
	Dir      string    `json:"dir"`                 // absolute; made if missing
	User     string    `json:"user,omitempty"`      // user[:group], names or ids; "" is root
	Groups   []string  `json:"groups,omitempty"`    // further groups of the user
	DropCaps []string  `json:"drop_caps,omitempty"` // names of capabilities, sorted
	Network  string    `json:"network,omitempty"`   // "", "none" or "host"
	NoHosts  bool      `json:"no_hosts,omitempty"`  // /etc/hosts is the image's
	Hosts    []string  `json:"hosts,omitempty"`     // name:ip lines for /etc/hosts
	Hostname string    `json:"hostname,omitempty"`  // "": the sandbox's default
	ShmSize  int64     `json:"shm_size,omitempty"`  // of /dev/shm in bytes; 0 is the sandbox's default
	Ulimits  []Ulimit  `json:"ulimits,omitempty"`
	Files    []RunFile `json:"files,omitempty"`    // mounted in /dev/pipes, read-only
	Mounts   []Mount   `json:"mounts,omitempty"`   // in mount order: parents first
	Insecure bool      `json:"insecure,omitempty"` // with all privileges that the builder has
	Platform string    `json:"platform"`           // of the stage, as in linux/amd64
	Epoch    *int64    `json:"epoch,omitempty"`
	Extra    RunExtra  `json:"-"`
}

// Ulimit is a resource limit in the sense of setrlimit(2); -1 is unlimited.
type Ulimit struct {
	Name string `json:"name"` // nofile, core, ...
	Soft int64  `json:"soft"`
	Hard int64  `json:"hard"`
}

// RunFile is the script of a heredoc: /dev/pipes/Name, mode 0755.
type RunFile struct {
	Name string `json:"name"`
	Data string `json:"data"`
}

// Mount is a file system that is mounted for one [Run]. Layers contain nothing
// of it.
type Mount struct {
	// Type is bind (the part of an input that Source selects; writes are
	// discarded), cache (a directory that persists between builds), tmpfs, secret
	// (a file) or ssh (the socket of an agent).
	Type     string `json:"type"`
	Target   string `json:"target,omitempty"` // absolute and clean, not "/"; "" for a secret that is only a variable
	ReadOnly bool   `json:"read_only,omitempty"`

	// Input is the index of the input in Step.In that has Source; 0 means that a
	// cache starts empty. Source is absolute and clean; symbolic links are followed
	// within the input.
	Input  int    `json:"input,omitempty"`
	Source string `json:"source,omitempty"`

	Size     int64  `json:"size,omitempty"`     // of a tmpfs in bytes; 0 is the kernel's default
	ID       string `json:"id,omitempty"`       // of a secret or agent
	Env      string `json:"env,omitempty"`      // variable that gets the secret
	Required bool   `json:"required,omitempty"` // fail if the build has no such secret or agent; else leave the mount out
	Owner    *Owner `json:"owner,omitempty"`    // of a secret, a socket or an empty cache; nil: root, 0755
	Origin   string `json:"origin,omitempty"`   // of a secret or agent, if the targets of the build have several with its ID
}

// Owner is the owner and mode of a file.
type Owner struct {
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
	Mode uint32 `json:"mode"` // permission bits
}

// RunExtra is input of a command that is not part of its key.
type RunExtra struct {
	Proxy  []string   `json:"proxy,omitempty"`  // NAME=value, appended to Env
	Caches []CacheUse `json:"caches,omitempty"` // one for each mount of type cache
	// Origins holds the sources of secrets and agents by the index of their mount, in a
	// build of several targets.
	Origins map[int]string `json:"origins,omitempty"`
}

// CacheUse identifies the directory of a cache mount.
type CacheUse struct {
	Mount   int    `json:"mount"` // index in Run.Mounts
	ID      string `json:"id"`
	Sharing string `json:"sharing"` // shared, private or locked
}
