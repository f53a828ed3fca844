package kaniko

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
)

// Kind is a kind of build context.
type Kind string

// Kinds of contexts.
const (
	Directory  Kind = "directory"
	Archive    Kind = "archive"    // on this machine
	Stdin      Kind = "stdin"      // an archive
	Repository Kind = "repository" // of git
	Web        Kind = "web"        // an archive on a web server
	S3         Kind = "s3"         // an archive in a bucket, as the following
	GCS        Kind = "gcs"
	Azure      Kind = "azure"
)

// Context is the place of a build context.
type Context struct {
	Kind   Kind
	At     string // path or URL
	Ref    string // of a repository: a branch, tag or commit; "" is the default branch
	Bucket string // of S3 and GCS
	Key    string // of an object; of Azure the path in the container
	Sub    string // directory below it
}

// host returns the host of a URL.
func (c *Context) host() string {
	u, err := url.Parse(c.At)
	if err != nil {
		return ""
	}
	return u.Host
}

// ParseContext parses the value of --context. scheme is that of requests to git servers,
// and branch the value of --git branch=.
func ParseContext(text, bucket, scheme, branch string) (Context, error) {
	if bucket != "" {
		text = bucket
		if !strings.Contains(bucket, "://") {
			text = "gs://" + bucket
		}
	}
	kind, rest, ok := strings.Cut(text, "://")
	if !ok {
		if text == "" {
			return Context{}, fmt.Errorf("--context is empty: want a directory or URL")
		}
		return Context{Kind: Directory, At: text}, nil
	}
	switch kind {
	case "dir":
		return Context{Kind: Directory, At: rest}, nil
	case "tar":
		if rest == "stdin" {
			return Context{Kind: Stdin}, nil
		}
		return Context{Kind: Archive, At: rest}, nil
	case "git":
		return repository(scheme+"://"+rest, branch), nil
	case "s3", "gs":
		return inBucket(kind, rest)
	case "https", "http":
		return web(text, branch)
	}
	return Context{}, fmt.Errorf("--context %s: the scheme is not supported: want a directory, dir://, tar://, git://, https://, s3:// or gs://; send other archives by standard input, with tar://stdin", text)
}

// repository returns the context of a git URL, to which kaniko adds up to two parts: a ref
// and a commit.
func repository(text, branch string) Context {
	parts := strings.SplitN(text, "#", 3)
	c := Context{Kind: Repository, At: parts[0], Ref: branch}
	for _, part := range parts[1:] {
		if part != "" {
			c.Ref = part
		}
	}
	return c
}

func inBucket(kind, rest string) (Context, error) {
	bucket, key, _ := strings.Cut(rest, "/")
	if bucket == "" || key == "" {
		if kind == "gs" && bucket != "" {
			return Context{Kind: GCS, Bucket: bucket, Key: "context.tar.gz"}, nil // kaniko's default
		}
		return Context{}, fmt.Errorf("--context %s://%s: want %s://BUCKET/KEY, the name of a tar archive", kind, rest, kind)
	}
	if kind == "gs" {
		return Context{Kind: GCS, Bucket: bucket, Key: key}, nil
	}
	return Context{Kind: S3, Bucket: bucket, Key: key}, nil
}

// azureDomains are those of Azure's clouds.
var azureDomains = []string{".blob.core.windows.net", ".blob.core.chinacloudapi.cn", ".blob.core.usgovcloudapi.net", ".blob.core.cloudapi.de"}

func web(text, branch string) (Context, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return Context{}, fmt.Errorf("--context: the URL is invalid: want https://HOST/PATH")
	}
	if strings.HasSuffix(u.Path, ".git") {
		return repository(text, branch), nil
	}
	for _, d := range azureDomains {
		if strings.HasSuffix(u.Hostname(), d) && u.Query().Get("sig") == "" {
			container, key, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
			if key == "" {
				return Context{}, fmt.Errorf("--context %s: want https://ACCOUNT%s/CONTAINER/BLOB", text, d)
			}
			return Context{Kind: Azure, At: u.Scheme + "://" + u.Host, Bucket: container, Key: key}, nil
		}
	}
	return Context{Kind: Web, At: text}, nil
}

func basic(user, password string) string {
	return "basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}
