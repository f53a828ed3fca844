package listing

import "strings"

// Join returns the path of name in the directory dir.
func Join(dir, name string) string {
	if dir == "." || dir == "" {
		return name
	}
	return dir + "/" + name
}

// Base returns the last element of an entry's path.
func Base(path string) string {
	return path[strings.LastIndexByte(path, '/')+1:]
}

// Dir returns an entry's path without its last element, or "." if it has one element
// only.
func Dir(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return "."
}
