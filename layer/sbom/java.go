package sbom

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"
)

const (
	maxNested      = 5         // archives in each other
	maxInner       = 128 << 20 // bytes of an archive in another
	maxInnerBytes  = 1 << 30   // bytes of all archives in one file
	maxProperties  = 1 << 20
	maxDirectory   = 32 << 20
	maxJarEntries  = 500_000
	maxJarArchives = 20_000
)

// isJar reports whether a file is a Java archive by its name.
func isJar(base string) bool {
	switch path.Ext(base) {
	case ".jar", ".war", ".ear", ".par", ".sar", ".nar", ".jpi", ".hpi", ".kar", ".far":
		return true
	}
	return false
}

// jars reads an archive and those in it.
type jars struct {
	all      []Package
	seen     map[Package]bool
	left     int64 // bytes of inner archives
	archives int
}

var errBomb = errors.New("the archives in it are too many or too large")

// parseJava lists the Maven packages in a Java archive and the archives in it.
func parseJava(c *contents) ([]Package, error) {
	j := &jars{seen: map[Package]bool{}, left: maxInnerBytes, archives: maxJarArchives}
	if err := j.read(c, c.size, c.name, 0); err != nil {
		return nil, err
	}
	return j.all, nil
}

func (j *jars) read(r io.ReaderAt, size int64, name string, depth int) error {
	if j.archives--; j.archives < 0 {
		return errBomb
	}
	directory := &budget{r, maxDirectory}
	z, err := zip.NewReader(directory, size)
	if err != nil {
		return err
	}
	directory.left = math.MaxInt64
	if len(z.File) > maxJarEntries {
		return fmt.Errorf("%d entries, want at most %d", len(z.File), maxJarEntries)
	}
	var manifest map[string]string
	named, poms := false, 0 // whether one of the packages is the archive itself
	for _, f := range z.File {
		switch base := path.Base(f.Name); {
		case base == "pom.properties" && strings.HasPrefix(f.Name, "META-INF/maven/"):
			p, err := properties(f, "=")
			if err != nil {
				return err
			}
			poms++
			named = named || p["artifactId"] != "" && strings.HasPrefix(name, p["artifactId"])
			if err := j.add(p["groupId"], p["artifactId"], p["version"]); err != nil {
				return err
			}
		case f.Name == "META-INF/MANIFEST.MF":
			if manifest, err = properties(f, ": "); err != nil {
				return err
			}
		case isJar(base) && !f.FileInfo().IsDir():
			if err := j.inner(f, depth+1); err != nil {
				return fmt.Errorf("%.200q: %w", f.Name, err)
			}
		}
	}
	if manifest == nil || named || poms == 1 {
		return nil
	}
	return j.byName(name, manifest)
}

// budget is a reader of a limited number of bytes, since archive/zip reads a directory of any
// length.
type budget struct {
	r    io.ReaderAt
	left int64
}

func (b *budget) ReadAt(p []byte, at int64) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, errBomb
	}
	return b.r.ReadAt(p, at)
}

// inner reads an archive in an archive.
func (j *jars) inner(f *zip.File, depth int) error {
	if depth > maxNested {
		return fmt.Errorf("more than %d archives in each other", maxNested)
	}
	if f.UncompressedSize64 > maxInner {
		return errBomb
	}
	b, err := extract(f, maxInner)
	if err != nil {
		return err
	}
	if j.left -= int64(len(b)); j.left < 0 {
		return errBomb
	}
	return j.read(bytes.NewReader(b), int64(len(b)), path.Base(f.Name), depth)
}

func extract(f *zip.File, most int64) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(b)) > most {
		err = errBomb
	}
	return b, err
}

// properties reads the lines of a file that have a name, a separator and a value. A section
// after an empty line is not read.
func properties(f *zip.File, separator string) (map[string]string, error) {
	b, err := extract(f, maxProperties)
	if err != nil {
		return nil, err
	}
	all, last := map[string]string{}, ""
	for line := range strings.SplitSeq(string(b), "\n") {
		line = strings.TrimRight(line, "\r")
		switch {
		case line == "" && separator == ": ":
			return all, nil
		case strings.HasPrefix(line, "#"):
		case separator == ": " && strings.HasPrefix(line, " ") && last != "":
			all[last] += line[1:] // a continued line of a manifest
		default:
			if name, value, ok := strings.Cut(line, separator); ok {
				last = strings.TrimSpace(name)
				all[last] = strings.TrimSpace(value)
			}
		}
	}
	return all, nil
}

func (j *jars) add(group, artifact, version string) error {
	if artifact == "" || strings.Contains(artifact+version, "${") {
		return nil
	}
	if group == "" {
		group = artifact
	}
	p := Package{Type: Maven, Name: group + ":" + artifact, Version: version}
	if j.seen[p] {
		return nil
	}
	var err error
	j.all, err = add(j.all, p)
	j.seen[p] = true
	return err
}

// byName adds an archive by its name and manifest: one without Maven's files, or with those of
// other packages only.
func (j *jars) byName(file string, manifest map[string]string) error {
	name, version := strings.TrimSuffix(file, path.Ext(file)), ""
	for i := 1; i+1 < len(name); i++ {
		if name[i] == '-' && name[i+1] >= '0' && name[i+1] <= '9' {
			name, version = name[:i], name[i+1:]
			break
		}
	}
	for _, key := range []string{"Implementation-Version", "Specification-Version", "Bundle-Version"} {
		if version == "" {
			version = manifest[key]
		}
	}
	return j.add(manifest["Implementation-Vendor-Id"], name, version)
}
