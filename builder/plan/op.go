package plan

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
)

// Op is what one step does. Its JSON is the step's key, so a field is either
// something that influences the result, or kept in an Extra, which no key
// covers.
//
// Scratch, Image, Context, Git and HTTP are roots: their steps have no inputs. Every other
// op's first input is the tree below, seen whole; the result is that tree's
// layers and one more.
type Op interface{ isOp() }

// Scratch is the empty tree: no layers.
type Scratch struct{}

// Image is the tree of an image. Its key is what its layers hold, wherever they
// come from.
type Image struct {
	DiffIDs []layer.Digest `json:"diff_ids"` // bottom first; at least one
	Extra   ImageExtra     `json:"-"`
}

// ImageExtra says where an image comes from.
type ImageExtra struct {
	Ref      string         `json:"ref"`    // normalised, as in docker.io/library/busybox:latest
	Digest   layer.Digest   `json:"digest"` // of the platform's manifest
	Platform layer.Platform `json:"platform"`
	Layers   []layer.Blob   `json:"layers"` // bottom first
}

// Context is a directory of the user's, used through selections only.
type Context struct {
	Name string `json:"name"` // "" is the main one, else as [ContextName] has it
}

// Copy puts files into the tree below (input 0). Names in Chown, and symbolic
// links in Dest, are those of that tree. COPY --link copies into Scratch and
// lays the result on with [Stack].
//
// The sources are copied in order; what is met later wins. A directory's
// contents are copied into Dest, not the directory itself, and merged with what
// is there; a file over a directory, or a directory over a file, is an error. A
// file becomes Dest, or goes inside if DestDir is set or Dest is a directory.
// Ownership and mode are the source's where Chown and Chmod are "". Missing
// directories that lead to Dest are made, owned by Chown, with the mode of an
// octal Chmod, else 0755.
type Copy struct {
	Sources []CopySource `json:"sources"`
	Dest    string       `json:"dest"`               // absolute and clean
	DestDir bool         `json:"dest_dir,omitempty"` // it was written with a slash at its end: a file goes inside
	Chown   string       `json:"chown,omitempty"`    // user[:group], names or ids; a numeric user alone is its own group too
	Chmod   string       `json:"chmod,omitempty"`    // as ParseMode reads it
	Exclude []string     `json:"exclude,omitempty"`  // .dockerignore patterns, relative to what each source names
	Epoch   *int64       `json:"epoch,omitempty"`    // no time in the layer is later
}

// CopySource is one source of a Copy, as written in the Dockerfile: paths in
// one of the step's inputs, or a file's text.
type CopySource struct {
	// Input is the index in Step.In, at least 1, of where Path is looked for;
	// 0 means that the source is an inline file.
	Input int `json:"input,omitempty"`

	// Path is absolute and clean, rooted in the input. It may hold wildcards
	// (filepath.Match, per component); a pattern that matches nothing copies
	// nothing, a plain path that is missing is an error. Symbolic links are
	// followed inside the input, in the last element too.
	Path string `json:"path,omitempty"`

	// Literal: Path has no wildcards and no symbolic links are followed (URLs).
	Literal bool `json:"literal,omitempty"`

	// Unpack: a file that is a tar archive, compressed or not, is unpacked instead
	// (ADD).
	Unpack bool `json:"unpack,omitempty"`

	// Parents is what --parents does. Path is then the pivot, whose own name is
	// left out at the destination, and Include a pattern below it, relative, in
	// which ** crosses directories: what matches is copied with the directories
	// that lead to it. Required: Path/Include must exist (it has no wildcard).
	Parents  bool   `json:"parents,omitempty"`
	Include  string `json:"include,omitempty"`
	Required bool   `json:"required,omitempty"`

	// Name and Data are an inline file's (mode 0644, owned by root).
	Name string `json:"name,omitempty"`
	Data string `json:"data,omitempty"`
}

// Workdir makes a directory and the missing ones that lead to it, mode 0755,
// owned by User, in the tree below (input 0). What is there already stays as it
// is; the layer may be empty.
type Workdir struct {
	Path  string `json:"path"`           // absolute and clean, not "/"
	User  string `json:"user,omitempty"` // user[:group] of the tree below; "" is root
	Epoch *int64 `json:"epoch,omitempty"`
}

// Run executes a command in the tree below (input 0). Mounts may use further
// inputs.
type Run struct {
	Args     []string  `json:"args"`               // Args[0] is looked up in PATH of Env, inside the tree
	Env      []string  `json:"env"`                // all of it, in order; PATH is always there
	Dir      string    `json:"dir"`                // absolute; made if missing
	User     string    `json:"user,omitempty"`     // user[:group], names or ids; "" is root
	Network  string    `json:"network,omitempty"`  // "", "none" or "host"
	Hosts    []string  `json:"hosts,omitempty"`    // name:ip lines for /etc/hosts
	Hostname string    `json:"hostname,omitempty"` // "": the sandbox's default
	ShmSize  int64     `json:"shm_size,omitempty"` // bytes of /dev/shm; 0 is the sandbox's default
	Ulimits  []Ulimit  `json:"ulimits,omitempty"`
	Files    []RunFile `json:"files,omitempty"`    // shown in /dev/pipes, read-only
	Mounts   []Mount   `json:"mounts,omitempty"`   // in order: what lies below comes first
	Insecure bool      `json:"insecure,omitempty"` // with all privileges that the builder has
	Platform string    `json:"platform"`           // the stage's, as in linux/amd64
	Epoch    *int64    `json:"epoch,omitempty"`
	Extra    RunExtra  `json:"-"`
}

// Ulimit is a limit of what a process may use, as setrlimit(2) has them; -1 is
// none.
type Ulimit struct {
	Name string `json:"name"` // nofile, core, ...
	Soft int64  `json:"soft"`
	Hard int64  `json:"hard"`
}

// RunFile is a script from a heredoc: /dev/pipes/Name, mode 0755.
type RunFile struct {
	Name string `json:"name"`
	Data string `json:"data"`
}

// Mount is one more file system in a Run's tree, for that command alone. No
// layer holds anything of it.
type Mount struct {
	// Type is bind (what Source selects of an input; what is written to it is
	// dropped), cache (a folder that is kept), tmpfs, secret (a file) or ssh (the
	// socket of an agent).
	Type     string `json:"type"`
	Target   string `json:"target,omitempty"` // absolute and clean, not "/"; "": a secret that is a variable only
	ReadOnly bool   `json:"read_only,omitempty"`

	// Input is the index in Step.In of what Source is of; 0: a cache begins
	// empty. Source is absolute and clean, symbolic links followed inside.
	Input  int    `json:"input,omitempty"`
	Source string `json:"source,omitempty"`

	Size     int64  `json:"size,omitempty"`     // tmpfs: bytes; 0 is the kernel's default
	ID       string `json:"id,omitempty"`       // of a secret or agent
	Env      string `json:"env,omitempty"`      // the variable that gets the secret
	Required bool   `json:"required,omitempty"` // else a secret or agent that the build lacks is left out
	Owner    *Owner `json:"owner,omitempty"`    // of a secret, a socket, or a cache's empty folder; nil: root, 0755
}

// Owner is who may do what with a file.
type Owner struct {
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
	Mode uint32 `json:"mode"` // permission bits
}

// RunExtra is what a command may see that no key covers.
type RunExtra struct {
	Proxy  []string   `json:"proxy,omitempty"`  // NAME=value, to be appended to Env
	Caches []CacheUse `json:"caches,omitempty"` // one for each mount of that type
}

// CacheUse says which folder a cache mount is.
type CacheUse struct {
	Mount   int    `json:"mount"` // index in Run.Mounts
	ID      string `json:"id"`
	Sharing string `json:"sharing"` // shared, private or locked
}

// Stack lays the layers of input 1 on those of input 0, both as they are. It
// makes no layer of its own and needs no byte of either.
type Stack struct{}

func (Scratch) isOp() {}
func (Image) isOp()   {}
func (Context) isOp() {}
func (Copy) isOp()    {}
func (Workdir) isOp() {}
func (Run) isOp()     {}
func (Stack) isOp()   {}

// Selection is what a Copy uses of an input that is not the tree below:
// [solve.Input].Sel is its JSON. The content of a selection is every path that
// a source matches (and every symbolic link crossed on the way), by name
// relative to the match, with type, mode, ids, xattrs, link target and bytes.
// A pattern without a match counts as such. Times count only below an Epoch.
type Selection struct {
	Paths    []SelPath `json:"paths"`
	Exclude  []string  `json:"exclude,omitempty"`
	AnyOwner bool      `json:"any_owner,omitempty"` // --chown replaces the owner: it does not count
	AnyMode  bool      `json:"any_mode,omitempty"`  // an octal --chmod replaces the mode: it does not count
	Epoch    *int64    `json:"epoch,omitempty"`     // min(mtime, Epoch) counts
}

// SelPath is a source's path, as [CopySource] explains it.
type SelPath struct {
	Path     string `json:"path"`
	Parents  bool   `json:"parents,omitempty"`
	Include  string `json:"include,omitempty"`
	Required bool   `json:"required,omitempty"`
	Literal  bool   `json:"literal,omitempty"`
}

// Kind is which op a step that [Make] made has, as in "run", at the cost of no
// decoding.
func Kind(s *solve.Step) string {
	rest, _ := strings.CutPrefix(s.Op, kindHead)
	kind, _, _ := strings.Cut(rest, `"`)
	return kind
}

// DecodeOp gives the op of a step that [Make] made, with what its key leaves
// out.
func DecodeOp(s *solve.Step) (Op, error) {
	switch Kind(s) {
	case "scratch":
		return Scratch{}, nil
	case "stack":
		return Stack{}, nil
	case "context":
		return decode[Context](s, nil)
	case "copy":
		return decode[Copy](s, nil)
	case "workdir":
		return decode[Workdir](s, nil)
	case "git":
		return decode(s, func(o *Git) any { return &o.Extra })
	case "http":
		return decode(s, func(o *HTTP) any { return &o.Extra })
	case "image":
		return decode(s, func(o *Image) any { return &o.Extra })
	case "run":
		return decode(s, func(o *Run) any { return &o.Extra })
	}
	return nil, fmt.Errorf("step of unknown kind: %.40q", s.Op)
}

// decode reads an op and, if the kind has one, its extra.
func decode[O Op](s *solve.Step, extra func(*O) any) (Op, error) {
	var op O
	if err := json.Unmarshal([]byte(s.Op), &op); err != nil {
		return nil, fmt.Errorf("step %.40q: %w", s.Op, err)
	}
	if extra != nil && s.Extra != "" {
		if err := json.Unmarshal([]byte(s.Extra), extra(&op)); err != nil {
			return nil, fmt.Errorf("what goes with step %.40q: %w", s.Op, err)
		}
	}
	return op, nil
}

// DecodeSelection reads a [solve.Input]'s Sel.
func DecodeSelection(sel string) (Selection, error) {
	var s Selection
	if err := json.Unmarshal([]byte(sel), &s); err != nil {
		return Selection{}, fmt.Errorf("selection %.40q: %w", sel, err)
	}
	return s, nil
}
