target_sources(quantoscope_gui PRIVATE
  ${CMAKE_CURRENT_LIST_DIR}/BinsView.cpp
  ${CMAKE_CURRENT_LIST_DIR}/Caption.cpp
  ${CMAKE_CURRENT_LIST_DIR}/ElidedCombo.cpp
  ${CMAKE_CURRENT_LIST_DIR}/HistogramView.cpp
  ${CMAKE_CURRENT_LIST_DIR}/LayersView.cpp
  ${CMAKE_CURRENT_LIST_DIR}/MemoryView.cpp
  ${CMAKE_CURRENT_LIST_DIR}/QualityLayers.cpp
  ${CMAKE_CURRENT_LIST_DIR}/QualityPage.cpp
  ${CMAKE_CURRENT_LIST_DIR}/QualityScores.cpp
  ${CMAKE_CURRENT_LIST_DIR}/QualitySkills.cpp
  ${CMAKE_CURRENT_LIST_DIR}/QualityText.cpp
  ${CMAKE_CURRENT_LIST_DIR}/QualityTraining.cpp
  ${CMAKE_CURRENT_LIST_DIR}/QualityView.cpp
  ${CMAKE_CURRENT_LIST_DIR}/RunnableModel.cpp
  ${CMAKE_CURRENT_LIST_DIR}/TextChooser.cpp
  ${CMAKE_CURRENT_LIST_DIR}/View.cpp)
