package kubernetes

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install" // the defaults and versions of its kinds, as each of these
	apps_validation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/autoscaling"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	autoscaling_validation "k8s.io/kubernetes/pkg/apis/autoscaling/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	core_validation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/policy"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	policy_validation "k8s.io/kubernetes/pkg/apis/policy/validation"
)

// validate does with an object what the API server does when it is created: sets what is not said to its default, and then
// judges it.
func validate(object runtime.Object) field.ErrorList {
	object = object.DeepCopyObject()
	legacyscheme.Scheme.Default(object)
	internal, err := legacyscheme.Scheme.UnsafeConvertToVersion(object, runtime.InternalGroupVersioner)
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	switch internal := internal.(type) {
	case *apps.Deployment:
		return apps_validation.ValidateDeployment(internal, pod.GetValidationOptionsFromPodTemplate(&internal.Spec.Template, nil))
	case *apps.DaemonSet:
		return apps_validation.ValidateDaemonSet(internal, pod.GetValidationOptionsFromPodTemplate(&internal.Spec.Template, nil))
	case *core.ConfigMap:
		return core_validation.ValidateConfigMap(internal)
	case *core.Service:
		// What the API server has allocated by then.
		internal.Spec.ClusterIPs = []string{internal.Spec.ClusterIP}
		if internal.Spec.ClusterIP == "" {
			internal.Spec.ClusterIP, internal.Spec.ClusterIPs = "10.0.0.1", []string{"10.0.0.1"}
		}
		single := core.IPFamilyPolicySingleStack
		internal.Spec.IPFamilyPolicy, internal.Spec.IPFamilies = &single, []core.IPFamily{core.IPv4Protocol}
		return core_validation.ValidateServiceCreate(internal)
	case *policy.PodDisruptionBudget:
		return policy_validation.ValidatePodDisruptionBudget(internal, policy_validation.PodDisruptionBudgetValidationOptions{})
	case *autoscaling.HorizontalPodAutoscaler:
		return autoscaling_validation.ValidateHorizontalPodAutoscaler(internal,
			autoscaling_validation.HorizontalPodAutoscalerSpecValidationOptions{MinReplicasLowerBound: 1})
	}
	return field.ErrorList{field.NotSupported(nil, internal, []string{"what the examples have"})}
}

func TestAPIServerWouldTakeTheManifests(t *testing.T) {
	for _, name := range []string{"gateway.yaml", "agent.yaml"} {
		for _, object := range load(t, name).all {
			assert.Empty(t, validate(object), "%s: %T", name, object)
		}
	}
}

// A test of the test: what is well-formed and cannot be meant is refused.
func TestAPIServerWouldRefuseMistakes(t *testing.T) {
	for _, mistake := range []struct{ name, from, to, says string }{
		{"selector", "matchLabels: {app.kubernetes.io/name: otel-gateway}\n  strategy:", "matchLabels: {app: x}\n  strategy:", "spec.template.metadata.labels"},
		{"enum", "type: RollingUpdate", "type: Rolling", "spec.strategy: Unsupported value"},
		{"required", "          image: registry.example.com/otelcol-scale-out:0.1.0\n", "", "image: Required value"},
		{"port", "containerPort: 13133", "containerPort: 131330", "containerPort"},
		{"name of a port", "{name: health, containerPort", "{name: health-of-the-collector, containerPort", "ports[2].name"},
		{"mount", "{name: config, mountPath", "{name: configuration, mountPath", "volumeMounts[0].name: Not found"},
		{"request above limit", `requests: {cpu: "1", memory: 2Gi}`, `requests: {cpu: "1", memory: 3Gi}`, "resources.requests"},
		{"sleep", "sleep: {seconds: 40}", "sleep: {seconds: 400}", "lifecycle.preStop.sleep"},
		{"service", "targetPort: otlp-grpc", "targetPort: otlp_grpc", "spec.ports[0].targetPort"},
		{"budget", "  maxUnavailable: 1\n  selector", "  maxUnavailable: 1\n  minAvailable: 1\n  selector", "cannot be both set"},
		{"autoscaler", "minReplicas: 3", "minReplicas: 30", "spec.maxReplicas"},
		{"target", "averageValue: 500m", "averageUtilization: 50", "averageValue"},
	} {
		t.Run(mistake.name, func(t *testing.T) {
			text := load(t, "gateway.yaml").text
			require.Contains(t, text, mistake.from)
			objects, err := decode([]byte(strings.Replace(text, mistake.from, mistake.to, 1)))
			require.NoError(t, err, "it is well-formed")
			var refused []string
			for _, object := range objects {
				for _, reason := range validate(object) {
					refused = append(refused, reason.Error())
				}
			}
			require.NotEmpty(t, refused)
			assert.Contains(t, strings.Join(refused, "\n"), mistake.says)
		})
	}
}
