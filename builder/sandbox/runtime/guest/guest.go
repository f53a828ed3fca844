// Package guest defines the messages between a sandbox and cairn-gvisor, the program that
// runs commands in a kernel of its own for the isolation mode gvisor.
//
// The program is started once for a build, with ControlFD as its only descriptor beyond the
// standard ones. Each packet on the control socket carries one byte and the four
// descriptors of a connection: a stream socket, standard input, output and error. A
// connection is one Request and its Reply, in the framing of package wire. After a request
// to run a command, the stream takes single bytes, each the number of a signal for the
// command; its end kills the command. The Reply of a command is followed by Changes
// messages, of which the last is empty. The program ends with the control socket.
package guest

import (
	"io"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
)

// Version is the version of the messages. A program with another version refuses a
// request.
const Version = "1"

// OneRelease ends the text of the error of a program with another version.
const OneRelease = "install both from one release"

// ControlFD is the descriptor of the control socket, one end of a SOCK_SEQPACKET pair.
const ControlFD = wire.ControlFD

// Kinds of requests.
const (
	// KindProbe starts the kernel and runs nothing.
	KindProbe = "probe"
	// KindLayer makes a layer known until the program ends.
	KindLayer = "layer"
	// KindRun runs a command.
	KindRun = "run"
)

// Request is a request of one of the kinds.
type Request struct {
	Version string
	Kind    string
	Layer   Layer // of KindLayer
	Run     Run   // of KindRun
}

// Layer describes the content of a layer.
type Layer struct {
	// ID is a name that requests use. A second layer with the same ID is ignored.
	ID string
	// Tree is the absolute path of the unpacked layer. Only the contents of regular files
	// are read from it.
	Tree string
	// Listing is the encoded listing.Listing of the layer.
	Listing string
	// Times has exact modification times of paths, also of paths that are in the layers
	// below only.
	Times []Time
}

// Time is the modification time of a path.
type Time struct {
	Path      string // in the form of listing.Entry
	Sec, Nsec int64
}

// Run describes a command and its tree.
type Run struct {
	Layers []string // IDs, the bottom layer first
	// Upper is an empty directory that receives the contents of changed regular files, at
	// their paths and with mode 0600, in directories with mode 0700.
	Upper string
	// Scratch is a directory for nameless temporary files.
	Scratch     string
	Mounts      []Mount
	Args, Env   []string
	Dir         string // "" is /
	MakeDir     bool
	User        string
	Groups      []string // further groups of the user
	DropCaps    int64    // bit set of capabilities that the command does not have
	Hostname    string
	HostsFile   string // content of /etc/hosts
	NoHosts     bool   // /etc/hosts is that of the tree
	ResolvConf  string // content of /etc/resolv.conf
	NoNetwork   bool
	ShmSize     int64
	Ulimits     []wire.Ulimit
	Memory      int64 // limit in bytes, 0 for none
	Processes   int64 // limit, 0 for none
	Interactive bool  // standard input may be a terminal, which becomes the controlling one
	Insecure    bool
}

// Types of mounts.
const (
	MountLayers = "layers" // the directory or file Subpath of a stack of layers
	MountCache  = "cache"  // a directory that keeps its content, owned by the host
	// MountVolume is a directory, regular file or socket of the host. The command sees a
	// directory as it is at the start, and its changes are written back before the Reply.
	MountVolume = "volume"
	MountTmpfs  = "tmpfs"
	MountFile   = "file"   // a file in memory
	MountSocket = "socket" // a listening Unix socket of the host
)

// Mount is an additional mount in the tree of a command.
type Mount struct {
	Type     string
	Target   string // its symbolic links are followed in the tree
	ReadOnly bool
	Layers   []string // of MountLayers: IDs, the bottom layer first; changes are discarded
	Subpath  string   // of MountLayers and MountCache; "" is all
	// Source is the path of a socket or volume, or the directory with the contents of a
	// cache.
	Source string
	// Record is the path of a file beside Source, which has the attributes of the files in
	// a cache. The command's changes are written to both before the Reply. Without the file,
	// everything has the modes of the host's files and the owner UID:GID.
	Record string
	Size   int64  // of MountTmpfs, 0 for no limit
	Data   string // of MountFile
	// The owner and permission bits of a file, socket, tmpfs or cache. A cache has them only
	// without its Record.
	UID, GID, Mode int64
}

// Reply is the result of a request.
type Reply struct {
	wire.Reply
	// Limit is a limit that the command has reached: "memory", "processes" or "".
	Limit string
}

// Changes is a part of the changed paths of a command, in the order of their paths' bytes.
type Changes struct {
	List []Change
}

// Change is a path in the upper file system. The paths include unchanged directories and
// files that the command has opened for writing. Whiteouts are character devices 0:0.
type Change struct {
	Path         string // in the form of listing.Entry; the first one is "."
	Mode         int64  // with the file type, as in stat(2)
	UID, GID     int64
	Size         int64
	Sec, Nsec    int64 // modification time
	Link         string
	Major, Minor int64
	Inode, Links int64 // of files other than directories; names of one file have one Inode
	Opaque       bool  // a directory that hides the directory below
	XAttrs       []Attribute
}

// Attribute is an extended attribute.
type Attribute struct{ Name, Value string }

// maxBatch is the number of paths in a Changes message.
const maxBatch = 4096

// SendChanges writes a list as Changes messages.
func SendChanges(w io.Writer, list []Change) error {
	for len(list) > 0 {
		n := min(len(list), maxBatch)
		if err := wire.Send(w, &Changes{list[:n]}); err != nil {
			return err
		}
		list = list[n:]
	}
	return wire.Send(w, &Changes{})
}

// ReceiveChanges reads the changes that SendChanges has written.
func ReceiveChanges(r io.Reader) (list []Change, err error) {
	for {
		var part Changes
		if err := wire.Receive(r, &part); err != nil {
			return nil, err
		}
		if len(part.List) == 0 {
			return list, nil
		}
		list = append(list, part.List...)
	}
}
