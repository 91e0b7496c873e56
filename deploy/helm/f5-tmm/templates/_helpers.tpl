{{- define "tmm.name" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{- define "tmm.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "tmm.name" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end }}

{{- define "tmm.selector" -}}
app: {{ include "tmm.name" . }}
app.kubernetes.io/name: f5-tmm
app.kubernetes.io/instance: {{ include "tmm.name" . }}
{{- end }}

{{- define "tmm.labels" -}}
{{ include "tmm.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tmm
{{- end }}

{{/* A scalar as text: 10000000, where toString would make it 1e+07. */}}
{{- define "tmm.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- int64 . -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end }}

{{- define "tmm.image" -}}
{{- $image := .image -}}
{{- printf "%s:%s" $image.repository (include "tmm.text" ($image.tag | default .version)) -}}
{{- end }}

{{/* The namespaces that the feeder watches, separated by commas; empty for all. */}}
{{- define "tmm.namespaces" -}}
{{- $given := .Values.feeder.namespaces -}}
{{- with .Values.controller -}}
{{- if and (not $given) .watchNamespace -}}
{{- $given = kindIs "string" .watchNamespace | ternary (splitList "," (toString .watchNamespace)) .watchNamespace -}}
{{- end -}}
{{- end -}}
{{- $names := list -}}
{{- range $given -}}
{{- $names = append $names (trim .) -}}
{{- end -}}
{{- join "," ($names | compact | uniq) -}}
{{- end }}

{{/* The attachments as Multus reads them. */}}
{{- define "tmm.networks" -}}
{{- $networks := .Values.tmm.cniNetworks -}}
{{- if kindIs "slice" $networks -}}
{{- join "," $networks -}}
{{- else -}}
{{- $networks | default "" | nospace -}}
{{- end -}}
{{- end }}

{{/* How the ports are driven. */}}
{{- define "tmm.mode" -}}
{{- $mode := .Values.tmm.mode -}}
{{- if eq $mode "auto" -}}
{{- $mode = "none" -}}
{{- range .Values.tmm.customEnvVars -}}
{{- if hasPrefix "OPENSHIFT_VFIO_RESOURCE_" .name -}}
{{- $mode = "sriov" -}}
{{- end -}}
{{- end -}}
{{- range .Values.tmm.customEnvVars -}}
{{- if and (eq .name "TMM_MAPRES_ADDL_VETHS_ON_DP") (eq (toString .value | upper) "TRUE") -}}
{{- $mode = "macvlan" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $mode -}}
{{- end }}

{{/* The capabilities that a mode needs, as a JSON list. */}}
{{- define "tmm.capabilities" -}}
{{- $byMode := dict
      "none" (list)
      "sriov" (list "IPC_LOCK")
      "mlx5" (list "IPC_LOCK" "NET_ADMIN" "NET_RAW")
      "macvlan" (list "NET_ADMIN" "NET_RAW") -}}
{{- concat (get $byMode (include "tmm.mode" .)) .Values.tmm.extraCapabilities | uniq | sortAlpha | toJson -}}
{{- end }}

{{/* Limits without what is switched off, as JSON. */}}
{{- define "tmm.limits" -}}
{{- $limits := dict -}}
{{- range $name, $amount := .Values.tmm.resources.limits -}}
{{- if or $.Values.tmm.hugepages.enabled (not (hasPrefix "hugepages-" $name)) -}}
{{- $_ := set $limits $name (include "tmm.text" $amount) -}}
{{- end -}}
{{- end -}}
{{- toJson $limits -}}
{{- end }}

{{- define "tmm.requests" -}}
{{- $requests := include "tmm.limits" . | fromJson -}}
{{- range $name, $amount := .Values.tmm.resources.requests -}}
{{- if or $.Values.tmm.hugepages.enabled (not (hasPrefix "hugepages-" $name)) -}}
{{- $_ := set $requests $name (include "tmm.text" $amount) -}}
{{- end -}}
{{- end -}}
{{- toJson $requests -}}
{{- end }}

{{/* Refuses what is not carried out, and what cannot work. */}}
{{- define "tmm.check" -}}
{{- $tmm := .Values.tmm -}}
{{- $errors := list -}}
{{- if $tmm.dynamicRouting.enabled -}}
{{- $errors = append $errors "tmm.dynamicRouting: routes are not advertised (BGP) by this release; set enabled: false, and route to the virtual addresses by the VLANs' self IPs" -}}
{{- end -}}
{{- if $tmm.icni2.enabled -}}
{{- $errors = append $errors "tmm.icni2: the annotations of OVN-Kubernetes are not written by this release; set enabled: false, and set k8s.ovn.org/routing-namespaces in tmm.pod.annotations yourself" -}}
{{- end -}}
{{- $debug := .Values.debug | default dict -}}
{{- if or $tmm.debug.enabled $debug.enabled -}}
{{- $errors = append $errors "debug: there is no debug container, because tmmctl is in f5-tmm's own: kubectl exec f5-tmm-0 -c f5-tmm -- tmmctl show; set debug.enabled: false" -}}
{{- end -}}
{{- range $name := list "bigdb" "calicoRouter" "grpc" "k8sRoutes" "sessiondb" "tmrouted" "vxlan" -}}
{{- if hasKey $tmm $name -}}
{{- $errors = append $errors (printf "tmm.%s: not available in this release; remove it" $name) -}}
{{- end -}}
{{- end -}}
{{- $seen := dict -}}
{{- range $tmm.customEnvVars -}}
{{- if hasKey $seen .name -}}
{{- $errors = append $errors (printf "tmm.customEnvVars: %s is listed twice" .name) -}}
{{- end -}}
{{- $_ := set $seen .name true -}}
{{- end -}}
{{- if hasKey $seen "POD_NAME" -}}
{{- $errors = append $errors "tmm.customEnvVars: POD_NAME is set by the chart; TMM_REPLICA gives another replica index" -}}
{{- end -}}
{{- if and (hasKey $seen "TMM_CONFIG_SOCKET") .Values.feeder.enabled -}}
{{- $errors = append $errors "tmm.customEnvVars: TMM_CONFIG_SOCKET is where the feeder expects it, /run/tmm/config.sock; remove it" -}}
{{- end -}}
{{- if hasKey $seen "TMM_DRAIN" -}}
{{- $errors = append $errors "tmm.customEnvVars: TMM_DRAIN is set by tmm.drainSeconds, which also gives the pod the time" -}}
{{- end -}}
{{- range $label := list "app" "app.kubernetes.io/name" "app.kubernetes.io/instance" -}}
{{- if hasKey ($tmm.pod.labels | default dict) $label -}}
{{- $errors = append $errors (printf "tmm.pod.labels: %s is set by the chart, which selects the pods by it; remove it" $label) -}}
{{- end -}}
{{- end -}}
{{- if and (include "tmm.networks" .) (hasKey ($tmm.pod.annotations | default dict) "k8s.v1.cni.cncf.io/networks") -}}
{{- $errors = append $errors "tmm.pod.annotations: k8s.v1.cni.cncf.io/networks is tmm.cniNetworks; give one of them" -}}
{{- end -}}
{{- $ports := 0 -}}
{{- range $name, $_ := $seen -}}
{{- if hasPrefix "OPENSHIFT_VFIO_RESOURCE_" $name -}}
{{- $ports = add1 $ports -}}
{{- end -}}
{{- end -}}
{{- $networks := include "tmm.networks" . -}}
{{- /* More attachments than variables: a resource may have several devices. */ -}}
{{- if and $networks (gt (int $ports) (len (splitList "," $networks))) -}}
{{- $errors = append $errors (printf "tmm.cniNetworks names %d attachments, but there are %d OPENSHIFT_VFIO_RESOURCE_n: at least one for each, in the same order" (len (splitList "," $networks)) (int $ports)) -}}
{{- end -}}
{{- range $n := until (int $ports) -}}
{{- if not (hasKey $seen (printf "OPENSHIFT_VFIO_RESOURCE_%d" (add1 $n))) -}}
{{- $errors = append $errors (printf "tmm.customEnvVars: OPENSHIFT_VFIO_RESOURCE_%d is missing; they are numbered from 1 without gaps" (add1 $n)) -}}
{{- end -}}
{{- end -}}
{{- if and (eq (include "tmm.mode" .) "macvlan") (not $networks) -}}
{{- $errors = append $errors "tmm.cniNetworks is empty: in macvlan mode the ports are the interfaces that it attaches" -}}
{{- end -}}
{{- $limits := include "tmm.limits" . | fromJson -}}
{{- if eq (toString $tmm.topologyManager) "true" -}}
{{- if not (regexMatch "^[1-9][0-9]*$" (get $limits "cpu" | default "")) -}}
{{- $errors = append $errors "tmm.topologyManager needs whole CPUs in tmm.resources.limits.cpu: \"2\", not 1500m" -}}
{{- end -}}
{{- if ne (include "tmm.limits" .) (include "tmm.requests" .) -}}
{{- $errors = append $errors "tmm.topologyManager needs tmm.resources.requests that are the limits; leave requests out" -}}
{{- end -}}
{{- end -}}
{{- if not (get $limits "memory") -}}
{{- $errors = append $errors "tmm.resources.limits.memory is required" -}}
{{- end -}}
{{- if $errors -}}
{{- fail (printf "\n\n  %s\n" (join "\n  " $errors)) -}}
{{- end -}}
{{- end }}
