package kubernetes

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
)

const scaleOut = "../../examples/scale-out"

var strict = serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict).UniversalDeserializer()

// decode reads all objects of a text, and fails for whatever the types do not have.
func decode(text []byte) (objects []runtime.Object, err error) {
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		object, kind, err := strict.Decode(document, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("document %d (%v): %w", len(objects)+1, kind, err)
		}
		objects = append(objects, object)
	}
}

// manifests are the objects of a file, of which there is one of each kind that a field is of.
type manifests struct {
	text       string
	config     *corev1.ConfigMap
	deployment *appsv1.Deployment
	daemons    *appsv1.DaemonSet
	service    *corev1.Service
	disruption *policyv1.PodDisruptionBudget
	autoscaler *autoscalingv2.HorizontalPodAutoscaler
	all        []runtime.Object
}

func load(t *testing.T, name string) (m manifests) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(scaleOut, "kubernetes", name))
	require.NoError(t, err)
	m.text = string(text)
	m.all, err = decode(text)
	require.NoError(t, err, name)
	for _, object := range m.all {
		switch object := object.(type) {
		case *corev1.ConfigMap:
			m.config = object
		case *appsv1.Deployment:
			m.deployment = object
		case *appsv1.DaemonSet:
			m.daemons = object
		case *corev1.Service:
			m.service = object
		case *policyv1.PodDisruptionBudget:
			m.disruption = object
		case *autoscalingv2.HorizontalPodAutoscaler:
			m.autoscaler = object
		default:
			t.Fatalf("%s: nothing tests a %T", name, object)
		}
	}
	return m
}

func TestGatewayAndAgentHaveTheirObjects(t *testing.T) {
	gateway := load(t, "gateway.yaml")
	assert.Len(t, gateway.all, 5)
	assert.NotNil(t, gateway.config)
	assert.NotNil(t, gateway.deployment)
	assert.NotNil(t, gateway.service)
	assert.NotNil(t, gateway.disruption)
	assert.NotNil(t, gateway.autoscaler)
	agent := load(t, "agent.yaml")
	assert.Len(t, agent.all, 3)
	assert.NotNil(t, agent.config)
	assert.NotNil(t, agent.daemons)
	assert.NotNil(t, agent.service)
}

// A test of the test: what is wrong in a manifest is refused.
func TestMistakesInManifestsAreRefused(t *testing.T) {
	for _, name := range []string{"gateway.yaml", "agent.yaml"} {
		for _, mistake := range []struct{ name, from, to, says string }{
			{"misspelt", "terminationGracePeriodSeconds:", "terminationGracePeriod:", "unknown field"},
			{"misspelt in a map", "sleep: {seconds:", "sleep: {second:", "unknown field"},
			{"in the wrong place", "  lifecycle:\n            preStop:", "  preStop:\n            lifecycle:", "unknown field"},
			{"twice", "          args:", "          args: []\n          args:", "already set"},
			{"of a wrong type", "failureThreshold: 30", "failureThreshold: thirty", "cannot unmarshal"},
			{"of another version", "apiVersion: apps/v1\n", "apiVersion: apps/v3\n", "no kind"},
			{"no quantity", "limits: {memory: ", "limits: {memory: x", "quantities"},
		} {
			t.Run(name+"/"+mistake.name, func(t *testing.T) {
				text := load(t, name).text
				require.Contains(t, text, mistake.from)
				_, err := decode([]byte(strings.Replace(text, mistake.from, mistake.to, 1)))
				require.ErrorContains(t, err, mistake.says)
			})
		}
	}
}
