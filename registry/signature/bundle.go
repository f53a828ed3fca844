package signature

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/cairn-build/cairn/layer"
)

const (
	// BundleType is the media type of a sigstore bundle and the artifact type of its
	// manifest.
	BundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"

	bundlePrefix  = "application/vnd.dev.sigstore.bundle"
	statementType = "application/vnd.in-toto+json"
)

// bundle is a sigstore bundle with a DSSE envelope. Other content is read only to name it in
// an error.
type bundle struct {
	MediaType            string          `json:"mediaType"`
	VerificationMaterial material        `json:"verificationMaterial"`
	Envelope             *envelope       `json:"dsseEnvelope,omitempty"`
	Message              json.RawMessage `json:"messageSignature,omitempty"`
}

type material struct {
	PublicKey   *keyHint        `json:"publicKey,omitempty"`
	Certificate json.RawMessage `json:"certificate,omitempty"`
	Chain       json.RawMessage `json:"x509CertificateChain,omitempty"`
}

type keyHint struct {
	Hint string `json:"hint"`
}

// envelope is a DSSE envelope.
type envelope struct {
	Payload     string              `json:"payload"`
	PayloadType string              `json:"payloadType"`
	Signatures  []envelopeSignature `json:"signatures"`
}

type envelopeSignature struct {
	KeyID string `json:"keyid,omitempty"`
	Sig   string `json:"sig"`
}

// preAuthentication returns the bytes that DSSE signs.
func preAuthentication(payloadType string, payload []byte) []byte {
	return append(fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(payloadType), payloadType, len(payload)), payload...)
}

// seal signs a statement.
func (s *Signer) seal(statement []byte) ([]byte, error) {
	sig, err := s.sign(preAuthentication(statementType, statement))
	if err != nil {
		return nil, err
	}
	return json.Marshal(bundle{
		MediaType:            BundleType,
		VerificationMaterial: material{PublicKey: &keyHint{s.Public().Hint()}},
		Envelope: &envelope{
			Payload: base64.StdEncoding.EncodeToString(statement), PayloadType: statementType,
			Signatures: []envelopeSignature{{Sig: base64.StdEncoding.EncodeToString(sig)}},
		},
	})
}

// openBundle returns the statement of a bundle that one of the keys has signed.
func openBundle(raw []byte, keys []*PublicKey) ([]byte, error) {
	var b bundle
	if err := layer.Unmarshal(raw, &b); err != nil {
		return nil, fmt.Errorf("parse bundle: %w", err)
	}
	if !strings.HasPrefix(b.MediaType, bundlePrefix) {
		return nil, fmt.Errorf("its media type is %.100q: want %s", b.MediaType, BundleType)
	}
	if b.Envelope == nil {
		return nil, errors.New("it has no DSSE envelope: signatures of a message are not supported")
	}
	if len(b.Message) > 0 {
		return nil, errors.New("it has both a DSSE envelope and a signature of a message")
	}
	statement, err := b.Envelope.open(keys)
	if errors.Is(err, errWrongKey) && (b.VerificationMaterial.Certificate != nil || b.VerificationMaterial.Chain != nil) {
		err = errors.New("it is signed with a certificate (keyless), and not with the key")
	}
	return statement, err
}

// errWrongKey is the error of a signature that none of the keys has made.
var errWrongKey = errors.New("the signature is not by the key")

// open returns the payload if one of the keys has signed it.
func (e *envelope) open(keys []*PublicKey) ([]byte, error) {
	if e.PayloadType != statementType {
		return nil, fmt.Errorf("its payload has type %.100q: want %s", e.PayloadType, statementType)
	}
	if len(e.Signatures) != 1 {
		return nil, fmt.Errorf("its envelope has %d signatures, want 1", len(e.Signatures))
	}
	payload, err := decodeBase64(e.Payload)
	if err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	sig, err := decodeBase64(e.Signatures[0].Sig)
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	message := preAuthentication(e.PayloadType, payload)
	for _, k := range keys {
		if k.verifies(message, sig) {
			return payload, nil
		}
	}
	return nil, errWrongKey
}

// decodeBase64 decodes the standard alphabet or that of URLs.
func decodeBase64(s string) ([]byte, error) {
	e := base64.StdEncoding
	if strings.ContainsAny(s, "-_") {
		e = base64.URLEncoding
	}
	b, err := e.Strict().DecodeString(s)
	if err != nil {
		return nil, errors.New("not base64")
	}
	return b, nil
}
