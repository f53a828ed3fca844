// Package op defines the operations of build steps and their encoding.
//
// An [Op] is the operation of one [solve.Step]: it copies files, runs a command,
// unpacks an image. The planner makes steps with [NewStep], the runner reads
// them with [Decode]. This is Cairn's counterpart of BuildKit's LLB.
//
// The JSON of an op is part of the step's cache key, so the encoding is
// canonical and each field influences the result. Data that must not change the
// key (registry references, proxies, credentials) is in a field named Extra,
// which is encoded apart.
package op

import "github.com/cairn-build/cairn/layer"

// Op is the operation of a step.
//
// [Scratch], [Image], [Context], [Git] and [HTTP] are roots: their steps have no
// inputs. Every other op has the tree that it builds on as input 0, all of which
// counts; its result is that tree's layers and one more.
type Op interface{ kind() string }

// Scratch is the empty tree, without layers.
type Scratch struct{}

// Image is the tree of an image. The key consists of the diff IDs only: the
// same layers from another registry are the same image.
type Image struct {
	DiffIDs []layer.Digest `json:"diff_ids"` // bottom first; at least one
	Extra   ImageExtra     `json:"-"`
}

// ImageExtra is the source of an image.
type ImageExtra struct {
	Ref      string             `json:"ref"`    // normalised, as in docker.io/library/busybox:latest
	Digest   layer.Digest       `json:"digest"` // of the platform's manifest
	Platform layer.Platform     `json:"platform"`
	Layers   []layer.Descriptor `json:"layers"` // bottom first
}

// Context is a build context. Other steps use it through selections only.
type Context struct {
	Name string `json:"name"` // "" for the main context, else the name of a --build-context
}

// Workdir makes a directory and its missing parents, with mode 0755 and owned
// by User, in the tree below (input 0). Existing directories stay as they are,
// so the layer may be empty.
type Workdir struct {
	Path  string `json:"path"`           // absolute and clean, not "/"
	User  string `json:"user,omitempty"` // user[:group] of the tree below; "" is root
	Epoch *int64 `json:"epoch,omitempty"`
}

// Stack puts the layers of input 1 on those of input 0, both unchanged. It makes
// no layer of its own and reads none of either.
type Stack struct{}
