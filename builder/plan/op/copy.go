package op

// Copy copies files into the tree below (input 0). Names in Chown and symbolic
// links in Dest are resolved in that tree. COPY --link copies into [Scratch] and
// puts the result on the tree with [Stack].
//
// Sources are copied in order; later ones overwrite earlier ones. Of a directory
// the contents are copied and merged with Dest. Replacing a directory by a file,
// or a file by a directory, is an error. A file becomes Dest itself, or is put
// inside Dest if DestDir is set or Dest is a directory. With Chown or Chmod "",
// the owner or mode of the source is kept. Missing parents of Dest are made,
// owned by Chown, with the mode of an octal Chmod or 0755.
type Copy struct {
	Sources []CopySource `json:"sources"`
	Dest    string       `json:"dest"`               // absolute and clean
	DestDir bool         `json:"dest_dir,omitempty"` // written with a trailing slash: a file is put inside
	Chown   string       `json:"chown,omitempty"`    // user[:group], names or ids; a numeric user alone is its own group too
	Chmod   string       `json:"chmod,omitempty"`    // see ParseMode
	Exclude []string     `json:"exclude,omitempty"`  // .dockerignore patterns, relative to each source
	Epoch   *int64       `json:"epoch,omitempty"`    // later modification times are set to it
}

// CopySource is one source of a [Copy], as written in the Dockerfile: paths in
// one of the step's inputs, or an inline file.
type CopySource struct {
	// Input is the index of the input in Step.In, at least 1, that has Path. 0
	// means that the source is an inline file.
	Input int `json:"input,omitempty"`

	// Path is absolute and clean, rooted in the input. It may have wildcards
	// (filepath.Match, per component). A pattern without a match copies nothing; a
	// missing path without wildcards is an error. Symbolic links are followed
	// within the input, also in the last element.
	Path string `json:"path,omitempty"`

	// Literal means that Path has no wildcards and that symbolic links are not
	// followed (URLs).
	Literal bool `json:"literal,omitempty"`

	// Unpack extracts a file that is a tar archive, compressed or not (ADD).
	Unpack bool `json:"unpack,omitempty"`

	// Parents is set for COPY --parents. Path is then the pivot, whose own name is
	// dropped at the destination, and Include a pattern relative to it, in which **
	// crosses directories. Matches are copied with their parent directories.
	// Required means that Path/Include must exist (it has no wildcards).
	Parents  bool   `json:"parents,omitempty"`
	Include  string `json:"include,omitempty"`
	Required bool   `json:"required,omitempty"`

	// Name and Data belong to an inline file (mode 0644, owned by root).
	Name string `json:"name,omitempty"`
	Data string `json:"data,omitempty"`
}

// Selection is the part of an input, other than the tree below, that a step
// uses. [solve.Input].Sel is its JSON. The content of a selection is every path
// that matches a source, and every symbolic link crossed on the way, by its name
// relative to the match, with type, mode, ids, xattrs, link target and bytes. A
// pattern without a match counts as such. Times count only if there is an Epoch.
type Selection struct {
	Paths    []SelPath `json:"paths"`
	Exclude  []string  `json:"exclude,omitempty"`
	AnyOwner bool      `json:"any_owner,omitempty"` // owners do not count: --chown replaces them
	AnyMode  bool      `json:"any_mode,omitempty"`  // modes do not count: an octal --chmod replaces them
	Epoch    *int64    `json:"epoch,omitempty"`     // min(mtime, Epoch) counts
}

// SelPath is one path of a [Selection]. Its fields are those of [CopySource].
type SelPath struct {
	Path     string `json:"path"`
	Parents  bool   `json:"parents,omitempty"`
	Include  string `json:"include,omitempty"`
	Required bool   `json:"required,omitempty"`
	Literal  bool   `json:"literal,omitempty"`
}

// SelPath returns the path for a selection of the source.
func (c CopySource) SelPath() SelPath {
	return SelPath{c.Path, c.Parents, c.Include, c.Required, c.Literal}
}
