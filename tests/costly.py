"""Tests that cost seconds beside a quicker one of the same thing: in slow runs only.

Measured by the processor's time that each takes; whoever changes what one of them looks at runs it
(`python -m pytest -m slow FILE`), and all are run before a release.
"""

COSTLY = {
    "adjust/test_adjust.py": (
        "test_gradient_vanishes_on_every_architecture[transformer]",
        "test_gradient_vanishes_on_every_architecture[unet-groupnorm]",
    ),
    "align/test_activation_elements.py": (
        "test_a_random_element_of_the_whole_group_is_found[post]",
    ),
    "align/test_computed_weights.py": (
        "test_planted_permutations_are_found_or_said_to_be_unmatched[beside-positions-post]",
        "test_planted_permutations_are_found_or_said_to_be_unmatched[state-space-post]",
    ),
    "align/test_cycle_consistent.py": (
        "test_planted_permutations_of_three_networks[inception]",
        "test_planted_permutations_of_three_networks[transformer]",
    ),
    "align/test_incoming.py": ("test_planted_permutations[False-inception]",),
    "align/test_learned_action.py": ("test_a_planted_element_of_a_transformer_is_found",),
    "align/test_matching.py": (
        "test_activations_recover_a_planted_permutation[unet-groupnorm]",
        "test_butterflies_recover_a_planted_permutation[resnet-projection]",
        "test_butterflies_recover_a_planted_permutation[unet-groupnorm]",
        "test_other_statistics_recover_it_too[densenet-inner-post]",
        "test_weights_recover_a_planted_permutation[densenet]",
        "test_weights_recover_a_planted_permutation[resnet-projection]",
        "test_weights_recover_a_planted_permutation[unet-groupnorm]",
    ),
    "align/test_weights.py": (
        "test_a_diffusion_unet_is_recovered[0.3]",
        "test_what_comes_after_corrects_what_has_been_matched",
    ),
    "align/test_whole_group.py": ("test_a_random_element_of_the_whole_group_is_found[scan]",),
    "attacks/test_pgd.py": ("test_adversarial_training_of_end_points_and_of_a_curve",),
    "cli/test_command.py": (
        "test_a_connection_model_is_a_method",
        "test_every_two_of_many_seeds",
    ),
    "evaluation/test_evaluate.py": (
        "test_statistics_along_a_path_reproduce_the_end_points",
        "test_statistics_shared_by_evaluations[line]",
    ),
    "evaluation/test_plane.py": ("test_values_are_those_of_the_networks[vgg-bn]",),
    "evaluation/test_repair.py": (
        "test_end_points_and_transformations[inception]",
        "test_end_points_and_transformations[transformer]",
        "test_inputs_that_no_device_holds[map]",
        "test_the_barrier_falls_after_alignment",
    ),
    "evaluation/test_statistics.py": ("test_statistics_of_several_t_at_once[2]",),
    "evaluation/test_worth.py": ("test_a_path_is_one_whatever_has_a_program_of_its_own[1.0-4]",),
    "flows/test_flows.py": (
        "test_an_interrupted_training_goes_on_bit_for_bit[bijection]",
        "test_an_interrupted_training_goes_on_bit_for_bit[flow]",
        "test_bijection_training_lowers_the_middle",
        "test_inverse_and_log_determinant[realnvp]",
        "test_paths_of_a_flow_keep_the_contract",
        "test_untrained_flow_is_the_arc_of_standardised_rows[realnvp]",
    ),
    "merge/test_ensemble.py": (
        "test_on_other_architectures[densenet]",
        "test_on_other_architectures[transformer]",
    ),
    "merge/test_pleas.py": ("test_of_a_model_and_its_permuted_self[transformer]",),
    "methods/test_check_method.py": ("test_every_preset[pam]",),
    "methods/test_connect.py": (
        "test_contract_of_a_method[convnet-activations-full]",
        "test_contract_of_a_method[densenet-activations-full]",
        "test_contract_of_a_method[inception-activations-full]",
        "test_contract_of_a_method[remat-tied-embedding-ot+wa]",
        "test_contract_of_a_method[resnet-projection-activations-full]",
        "test_contract_of_a_method[resnet-projection-arc]",
        "test_contract_of_a_method[resnet-projection-linear]",
        "test_contract_of_a_method[resnet-projection-ot]",
        "test_contract_of_a_method[resnet-projection-weight-matching]",
        "test_contract_of_a_method[squeeze-excitation-activations-full]",
        "test_contract_of_a_method[stacked-layers-activations-full]",
        "test_contract_of_a_method[transformer-activation-matching]",
        "test_contract_of_a_method[transformer-activations-full]",
        "test_contract_of_a_method[transformer-arc+butterfly]",
        "test_contract_of_a_method[transformer-ot+wa]",
        "test_contract_of_a_method[unet-groupnorm-activations-full]",
        "test_contract_of_a_method[unet-groupnorm-arc+butterfly]",
        "test_contract_of_a_method[unet-groupnorm-ot+wa]",
        "test_contract_of_a_method[unet-groupnorm-weights-full]",
        "test_contract_of_a_method[vgg-bn-arc+butterfly]",
        "test_contract_of_a_method[vgg-bn-ot+wa]",
    ),
    "methods/test_layerwise.py": ("test_garipov_lowers_the_barrier",),
    "methods/test_objects.py": ("test_every_mode_at_once[method0]",),
    "methods/test_pam.py": (
        "test_a_swapped_pair_is_found[Projection()]",
        "test_a_swapped_pair_is_found[SinkhornRelaxation(temperature=0.1)]",
    ),
    "models/test_models.py": ("test_groups_and_alignment[tiny-ten]",),
    "network/symmetry/test_oracle.py": (
        "test_as_large_as_what_there_is[scaled_layer_norm_stream]",
    ),
    "network/test_action.py": (
        "test_orbit_stays_at_the_function[bottleneck]",
        "test_orbit_stays_at_the_function[relu]",
        "test_under_jit_and_vmap[attention]",
        "test_under_jit_and_vmap[bottleneck]",
        "test_under_jit_and_vmap[relu]",
    ),
    "network/test_activations.py": (
        "test_every_group_has_activations_that_move_with_it[resnet-pad]",
        "test_every_group_has_activations_that_move_with_it[unet-straddling]",
    ),
    "network/test_catalogue.py": ("test_permutations_under_jit_and_vmap[transformer]",),
    "network/test_friction.py": ("test_from_trace_to_files[equinox with state]",),
    "network/test_mixing.py": (
        "test_mixing_is_linear_in_each_matrix[inception]",
        "test_permutation_matrices_permute[densenet]",
        "test_permutation_matrices_permute[inception]",
        "test_permutation_matrices_permute[resnet-projection]",
        "test_permutation_matrices_permute[unet-groupnorm]",
    ),
    "network/test_modes.py": (
        "test_modes[disable_jit-attention-grouped-query]",
        "test_modes[rank_promotion-grouped-convolution]",
        "test_modes[rank_promotion-lstm]",
        "test_modes[rank_promotion-unet-groupnorm]",
        "test_modes[strict_promotion-transformer]",
        "test_modes[strict_promotion-unet-groupnorm]",
        "test_modes[x64-unet-groupnorm]",
    ),
    "network/test_moments.py": ("test_a_class_token_adds_no_moments[8-6]",),
    "network/test_normalisation.py": (
        "test_every_algebra[channels_first-images]",
        "test_every_algebra[folded-dense]",
    ),
    "network/test_trace.py": ("test_fuzz[10000-9]",),
    "network/test_units.py": (
        "test_rows_go_back_and_move_with_their_units[densenet]",
        "test_rows_go_back_and_move_with_their_units[inception]",
        "test_rows_go_back_and_move_with_their_units[resnet-projection]",
        "test_rows_go_back_and_move_with_their_units[unet-groupnorm]",
    ),
    "network/test_values.py": ("test_other_precisions_are_taken[bfloat16]",),
    "neurons/test_draw.py": ("test_a_flow_finds_where_neurons_are",),
    "path/test_contract.py": (
        "test_contract[knots-of]",
        "test_contract_between_ends_of_their_own[orbit]",
        "test_exact_at_the_ends[knots-of-float16]",
        "test_exact_at_the_ends[swaps-float16]",
        "test_gradient_in_the_path_against_finite_differences[knots-of]",
    ),
    "path/test_modes.py": (
        "test_points[knots-of-disable_jit]",
        "test_points[swaps-disable_jit]",
    ),
    "path/test_swaps.py": (
        "test_every_leg_ends_at_the_same_function[densenet-3]",
        "test_every_leg_ends_at_the_same_function[transformer-3]",
    ),
    "path/test_transformation.py": (
        "test_moved_values_are_those_of_the_point[attention-fused-reshape]",
        "test_moved_values_are_those_of_the_point[grouped-convolution]",
    ),
    "test_compiles.py": ("test_nothing_is_compiled_twice[train_flow]",),
    "test_experiments.py": ("test_smoke_of_vrabel2024[figure3]",),
    "test_hard_use.py": (
        "test_networks_are_let_go[activations]",
        "test_networks_are_let_go[layer inputs]",
        "test_networks_are_let_go[training]",
    ),
    "test_study_inputs.py": ("test_attacks_that_do_not_get_there_are_left_out_and_said",),
    "theory/test_alignment_bound.py": (
        "test_alignment_tightens_the_bound_and_the_loss_is_below_it",
    ),
    "theory/test_zhao2025.py": (
        "test_every_two_minima_are_joined_after_permutations_of_the_right_parity[2-2]",
    ),
    "training/test_curves.py": ("test_a_trained_curve_is_better_than_the_segment[Bezier]",),
    "training/test_networks.py": (
        "test_convolutional_networks_do_not_depend_on_how_they_are_stepped",
    ),
}
