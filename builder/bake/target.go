package bake

// Target describes one build. Pointers, lists and maps are nil if no file gives the
// attribute. The JSON names are the names of the attributes.
type Target struct {
	Name        string `json:"-"`
	Description string `json:"description,omitempty"`

	Inherits         []string           `json:"inherits,omitempty"`
	Annotations      []string           `json:"annotations,omitempty"`
	Attest           []*Attest          `json:"attest,omitempty"`
	Context          *string            `json:"context,omitempty"`
	Contexts         map[string]string  `json:"contexts,omitempty"`
	Dockerfile       *string            `json:"dockerfile,omitempty"`
	DockerfileInline *string            `json:"dockerfile-inline,omitempty"`
	Args             map[string]*string `json:"args,omitempty"`
	Labels           map[string]*string `json:"labels,omitempty"`
	Tags             []string           `json:"tags,omitempty"`
	CacheFrom        []*Cache           `json:"cache-from,omitempty"`
	CacheTo          []*Cache           `json:"cache-to,omitempty"`
	Stage            *string            `json:"target,omitempty"`
	Secrets          []*Secret          `json:"secret,omitempty"`
	SSH              []*SSH             `json:"ssh,omitempty"`
	Platforms        []string           `json:"platforms,omitempty"`
	Outputs          []*Output          `json:"output,omitempty"`
	Pull             *bool              `json:"pull,omitempty"`
	NoCache          *bool              `json:"no-cache,omitempty"`
	Network          *string            `json:"network,omitempty"`
	NoCacheFilter    []string           `json:"no-cache-filter,omitempty"`
	ShmSize          *string            `json:"shm-size,omitempty"`
	Ulimits          []string           `json:"ulimits,omitempty"`
	Resources        *Resources         `json:"resources,omitempty"`
	Call             *string            `json:"call,omitempty"`
	Entitlements     []string           `json:"entitlements,omitempty"`
	ExtraHosts       map[string]*string `json:"extra-hosts,omitempty"`

	// Linked is set for a target that is built only because a selected one uses it as
	// a context.
	Linked bool `json:"-"`
	// Positions has the place of each attribute by its JSON name, and of the target
	// itself under "".
	Positions map[string]Position `json:"-"`
	// Remote has the contexts that are in the place of a remote definition.
	Remote RemoteContexts `json:"-"`
	// Bases are set if contexts are relative to files; see ReadOptions.FileRelative.
	Bases Bases `json:"-"`
}

// Bases has the directories that relative contexts of a target begin at. An attribute
// without one begins at the working directory.
type Bases struct {
	Default   *string           // of the context if no file gives one
	Context   *string           // of the attribute context
	ContextOf string            // name of a target whose context has the base, or ""
	Contexts  map[string]string // of the attribute contexts
}

// Position returns the place of an attribute, or of the target if the place of the
// attribute is unknown.
func (t *Target) Position(attribute string) Position {
	if p, ok := t.Positions[attribute]; ok {
		return p
	}
	return t.Positions[""]
}

// Attest is an attestation of a build.
type Attest struct {
	Type     string
	Disabled bool
	Attrs    map[string]string
}

// Cache is a place that a build imports its cache from or exports it to.
type Cache struct {
	Type  string
	Attrs map[string]string
}

// Output is a destination of the result of a build.
type Output struct {
	Type        string
	Destination string
	Attrs       map[string]string
}

// Secret is a secret of a build, from a file or a variable of the environment.
type Secret struct {
	ID   string `json:"id,omitempty"`
	File string `json:"src,omitempty"`
	Env  string `json:"env,omitempty"`
}

// SSH is an agent of a build, by its socket, or keys.
type SSH struct {
	ID    string   `json:"id,omitempty"`
	Paths []string `json:"paths,omitempty"`
}

// Resources are the limits of each RUN.
type Resources struct {
	Memory     *string `json:"memory,omitempty"`
	MemorySwap *string `json:"memory-swap,omitempty"`
	CPUShares  *int64  `json:"cpu-shares,omitempty"`
	CPUPeriod  *int64  `json:"cpu-period,omitempty"`
	CPUQuota   *int64  `json:"cpu-quota,omitempty"`
	CPUSetCPUs *string `json:"cpuset-cpus,omitempty"`
	CPUSetMems *string `json:"cpuset-mems,omitempty"`
}
