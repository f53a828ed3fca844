package signature

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/layer"
)

// SignType is the predicate type of a statement that is the signature of an image.
const SignType = "https://sigstore.dev/cosign/sign/v1"

// statement is an in-toto statement without its predicate.
type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     any       `json:"predicate,omitempty"`
}

type subject struct {
	Name   string            `json:"name,omitempty"`
	Digest map[string]string `json:"digest"`
}

// newStatement returns the statement that signs an image or index.
func newStatement(d layer.Digest) ([]byte, error) {
	return json.Marshal(statement{
		Type: "https://in-toto.io/Statement/v1", Subject: []subject{{Digest: map[string]string{"sha256": d.Hex()}}},
		PredicateType: SignType, Predicate: struct{}{},
	})
}

// checkStatement returns an error unless a statement is about an image and of a predicate
// type.
func checkStatement(raw []byte, d layer.Digest, predicateType string) error {
	var s struct {
		statement
		Predicate json.RawMessage `json:"predicate"`
	}
	if err := layer.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("parse statement: %w", err)
	}
	switch s.Type {
	case "https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1":
	default:
		return fmt.Errorf("its statement has type %.100q: want https://in-toto.io/Statement/v1", s.Type)
	}
	if s.PredicateType != predicateType {
		return fmt.Errorf("it signs a statement of type %.200q: want %s", s.PredicateType, predicateType)
	}
	if slices.ContainsFunc(s.Subject, func(one subject) bool { return one.Digest["sha256"] == d.Hex() }) {
		return nil
	}
	if len(s.Subject) == 0 {
		return errors.New("its statement has no subject")
	}
	return fmt.Errorf("it signs another image, %.71q", "sha256:"+s.Subject[0].Digest["sha256"])
}

const simpleType = "cosign container image signature"

// simple is a payload of simple signing, the classic format.
type simple struct {
	Critical struct {
		Identity struct {
			Reference string `json:"docker-reference"`
		} `json:"identity"`
		Image struct {
			Digest layer.Digest `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
	Optional map[string]any `json:"optional"`
}

// newSimple returns the payload for an image of a repository.
func newSimple(repository string, d layer.Digest) ([]byte, error) {
	var s simple
	s.Critical.Identity.Reference, s.Critical.Image.Digest, s.Critical.Type = repository, d, simpleType
	return json.Marshal(s)
}

// checkSimple returns an error unless the payload is about the image d. Its reference is
// not compared, since images are copied between repositories with their signatures.
func checkSimple(raw []byte, d layer.Digest) error {
	var s simple
	if err := layer.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("parse payload: %w", err)
	}
	switch {
	case s.Critical.Type != simpleType:
		return fmt.Errorf("its payload has type %.100q: want %q", s.Critical.Type, simpleType)
	case s.Critical.Image.Digest != d:
		return fmt.Errorf("it signs another image, %.71q", s.Critical.Image.Digest)
	}
	return nil
}

// predicateTypes are the short names that cosign has for predicate types.
var predicateTypes = map[string]string{
	"spdx": "https://spdx.dev/Document", "spdxjson": "https://spdx.dev/Document", "cyclonedx": "https://cyclonedx.org/bom",
	"slsaprovenance": "https://slsa.dev/provenance/v0.2", "slsaprovenance02": "https://slsa.dev/provenance/v0.2",
	"slsaprovenance1": "https://slsa.dev/provenance/v1", "vuln": "https://cosign.sigstore.dev/attestation/vuln/v1",
}

// ParsePredicateType returns the predicate type with a short name of cosign, or s if it is
// a URL.
func ParsePredicateType(s string) (string, error) {
	if t, ok := predicateTypes[s]; ok {
		return t, nil
	}
	if !strings.HasPrefix(s, "https://") && !strings.HasPrefix(s, "http://") {
		return "", errors.New("want spdxjson, cyclonedx, slsaprovenance, slsaprovenance1, vuln or the URL of a predicate type")
	}
	return s, nil
}
